//! What the simulation cannot judge: when things happen, and what is said meanwhile.

#[path = "stories/body.rs"]
mod body;
#[path = "stories/coming_back.rs"]
mod coming_back;
#[path = "stories/conflating.rs"]
mod conflating;
#[path = "stories/counting.rs"]
mod counting;
#[path = "stories/keeping.rs"]
mod keeping;
#[path = "stories/liveness.rs"]
mod liveness;
#[path = "stories/revoking.rs"]
mod revoking;
#[path = "stories/snapshots.rs"]
mod snapshots;
#[path = "stories/tokens.rs"]
mod tokens;
