//! The one test binary: each suite is a module.

mod channels;
mod constants;
mod container;
mod differential;
mod fuzz;
mod gradients;
mod kernels;
mod meta;
mod onnx;
mod passes;
mod plans;
mod steps;
mod text;
mod verify;
