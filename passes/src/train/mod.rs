//! Training: another graph.
//!
//! [`differentiate`] makes of a model, a loss and an optimizer one graph that computes a whole step: from
//! parameters, optimizer state, a batch and the learning rate to the loss, the next parameters and the next
//! state. [`gradients`] writes gradients with ordinary operators, and so does the optimizer; the graph prints,
//! verifies, is simplified by the same passes as any other, and runs on any backend. [`Trainer`] is the loop
//! around it: it keeps parameters and state inside a [`optc_ir::StepExecutable`] from step to step.
//!
//! The model is trained as it is written: layers followed by batch normalisation are folded afterwards, by
//! `simplify`, never before.
//!
//! Everything random (the order of samples, dropout) is a function of the seed and of the step's number, so that
//! a run is the same on any number of threads, and an interrupted one goes on as if it had not been.

mod autodiff;
mod constraint;
mod dropout;
mod emit;
mod error;
mod loss;
mod optimizer;
mod options;
mod parameter;
mod prepare;
mod regularize;
mod sampling;
mod schedule;
mod step;
#[cfg(test)]
mod tests;
mod trainer;
mod unroll;
mod vjp;

pub use autodiff::gradients;
pub use constraint::Form;
pub use dropout::adjusted_rate;
pub use error::TrainError;
pub use loss::{Loss, LossTerm};
pub use optimizer::Optimizer;
pub use options::{BatchNormMode, DropoutRule, Keep, TrainOptions};
pub use parameter::{Parameter, ParameterKind};
pub use regularize::{GroupAxes, GroupLasso, Regularizer};
pub use sampling::Sampler;
pub use schedule::{Course, Schedule};
pub use step::{Role, StepInput, TrainStep, differentiate};
pub use trainer::{Batch, Evaluation, StepLoss, TrainState, Trainer};
