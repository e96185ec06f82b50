//! What the gateway counts and says about itself.

pub mod cells;
