"""Runs that nobody hears of any more: when they are given up, and what becomes of them."""

from __future__ import annotations

from wandb_tl.local.store import Database

# A run's client speaks at least every 30 s, also while it uploads, and an agent every 5 s for the runs whose
# processes it sees. A lost message is sent again within seconds: one may be missing, two may not.
SILENCE_SECONDS = 50

# Agents that are gone are missed earlier: a run they claimed and never started waits only for them.
AGENT_SILENCE_SECONDS = 45

# What becomes of a run whose process is gone without a word. A sweep's scheduler writes its log as a run and
# never says that this is over.
GONE = (
    "state = CASE WHEN stop_requested THEN 'killed' WHEN preempting THEN 'preempted'"
    " WHEN EXISTS (SELECT 1 FROM sweep WHERE sweep.project_id = run.project_id"
    "  AND run.name = sweep.name || '-scheduler') THEN 'finished' ELSE 'crashed' END,"
    " crashes = crashes + (NOT stop_requested AND NOT preempting)"
)


def give_up_silent(db: Database) -> None:
    """Close runs that nobody has heard of for too long.

    The silence is counted from when this server began to listen: while it was down it could hear nobody.
    """
    for silence, silent_runs in (
        (SILENCE_SECONDS, "state IN ('running', 'preempting') AND coalesce(heartbeat_at, created_at) < ?1"),
        (
            AGENT_SILENCE_SECONDS,
            "state = 'pending' AND claimed_at < ?1 AND agent_id IN"
            " (SELECT id FROM agent WHERE heartbeat_at < ?1)",
        ),
    ):
        deadline = db.now - silence
        if db.listening_since <= deadline:
            db.run(f"UPDATE run SET {GONE} WHERE {silent_runs}", deadline)
