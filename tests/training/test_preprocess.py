import torch

from wandb_tl.training.preprocess import Preprocess


def test_preprocess_repeats_grey_scales_and_normalises():
    images = torch.full((2, 1, 28, 28), 255, dtype=torch.uint8)
    images[1] = 0
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.4, 0.2)
    pixels = Preprocess(64, mean, std, torch.device("cpu"))(images)
    assert pixels.shape == (2, 3, 64, 64)
    white = torch.tensor([(1 - m) / s for m, s in zip(mean, std, strict=True)])
    black = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
    torch.testing.assert_close(pixels[0, :, 5, 7], white)
    torch.testing.assert_close(pixels[1, :, 60, 1], black)


def test_one_channel_is_grey_and_the_luma_of_colours():
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [80, 80, 80]], dtype=torch.uint8)
    preprocess = Preprocess(8, (0.0,), (1.0,), torch.device("cpu"))
    pixels = preprocess(colours[:, :, None, None].expand(4, 3, 8, 8))
    assert pixels.shape == (4, 1, 8, 8)
    luma = torch.tensor([0.299, 0.587, 0.114, 80 / 255])
    torch.testing.assert_close(pixels[:, 0, 3, 3], luma)
    grey = torch.full((4, 1, 8, 8), 80, dtype=torch.uint8)
    torch.testing.assert_close(preprocess(grey)[3], pixels[3])
