//! The one test binary: each suite is a module.

mod constants;
mod container;
mod fuzz;
mod kernels;
mod meta;
mod passes;
mod plans;
mod text;
mod verify;
