//! The revision log: the append-only, segmented history of the state machine.
