//! What a shard is: one thread and all it owns. Everything that may wait, waits through this room.

pub mod budget;
pub mod buffers;
pub mod load;
pub mod mesh;
pub mod owner;
pub mod parcel;
pub mod placement;
pub mod ring;
pub mod runtime;
mod sync;

#[cfg(test)]
mod mesh_tests;
#[cfg(test)]
mod ring_model;
