//! The one test binary: each suite is a module.

mod channels;
mod choices;
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
mod tables;
mod text;
mod verify;
