"""Web pages at the addresses that the wandb client prints."""
