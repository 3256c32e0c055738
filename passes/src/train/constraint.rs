//! What retraining leaves as it is: zeros, and equality within clusters.
//!
//! A parameter may be another tensor than the one its layers read. What they read is computed from it in the step
//! graph, the gradient is taken with respect to that, and pulled back to the parameter by a rule of its own. For
//! clusters, layers read `w_i = c[k_i]`, codes k constant, and the gradient of a shared value is the sum of its
//! members' (Han et al. 2016, section 3.3).

use optc_ir::op::{Gather, ScatterElements, ScatterReduction};
use optc_ir::{Data, Tensor, ValueId};

use super::emit::Emit;
use super::error::TrainError;
use super::options::Keep;
use super::parameter::{Parameter, ParameterKind};

/// What of a parameter may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Every element.
    Free,
    /// Elements that are not zero.
    Zeros,
    /// The values its elements share, so many of them. A value of zero stays, if zeros are kept.
    Clusters {
        /// Distinct values.
        values: usize,
    },
}

/// The elements of a parameter as codes of shared values.
#[derive(Clone, Debug)]
pub(super) struct Clusters {
    /// The shared values, in ascending order.
    pub(super) values: Vec<f64>,
    /// Which of them each element has.
    pub(super) codes: Vec<i64>,
}

impl Clusters {
    /// The clusters of values that are shared at least by two on average; `None` for others.
    fn of(elements: &[f64]) -> Option<Clusters> {
        let mut values: Vec<f64> = elements.to_vec();
        values.sort_by(f64::total_cmp);
        values.dedup();
        if values.len() * 2 > elements.len() || elements.iter().any(|x| x.is_nan()) {
            return None;
        }
        let code = |x: &f64| i64::try_from(values.partition_point(|v| v < x)).ok();
        let codes = elements.iter().map(code).collect::<Option<_>>()?;
        Some(Clusters { values, codes })
    }
}

/// Reads off the values of a parameter what of it may change.
pub(super) fn constrain(parameter: &mut Parameter, initial: &Tensor, keep: Keep) {
    if parameter.kind != ParameterKind::Weight {
        return;
    }
    let elements = initial.data().to_f64();
    if keep.clusters
        && let Some(clusters) = Clusters::of(&elements)
    {
        parameter.form = Form::Clusters { values: clusters.values.len() };
        parameter.clusters = Some(clusters);
    } else if keep.zeros {
        parameter.form = Form::Zeros;
    }
}

impl Parameter {
    /// The tensor that is trained, of a parameter whose constant is `initial`.
    pub(super) fn trained(&self, initial: &Tensor) -> Tensor {
        match &self.clusters {
            Some(clusters) => {
                let values = Data::from_f64(initial.dtype(), clusters.values.iter().copied());
                Tensor::new([clusters.values.len()], values)
            }
            None => initial.clone(),
        }
    }

    /// The constant of this shape that a trained tensor stands for.
    pub(super) fn constant(&self, shape: &[usize], trained: Tensor) -> Tensor {
        match &self.clusters {
            Some(clusters) => {
                let members = clusters.codes.iter().map(|&code| usize::try_from(code).unwrap_or(0));
                Tensor::new(shape, trained.data().select(members))
            }
            None => trained,
        }
    }

    /// The mask of a trained tensor: 0 where it must stay zero, 1 elsewhere; `None` if nothing must.
    pub(super) fn mask(&self, trained: &Tensor, keep: Keep) -> Option<Tensor> {
        if !keep.zeros || self.form == Form::Free {
            return None;
        }
        let ones = trained.data().to_f64().into_iter().map(|x| if x == 0.0 { 0.0 } else { 1.0 });
        Some(Tensor::new(trained.shape(), Data::from_f64(trained.dtype(), ones)))
    }

    /// What layers read, of shape `shape`, computed from the trained tensor.
    pub(super) fn emit(&self, e: &mut Emit<'_>, trained: ValueId, shape: &[usize]) -> Result<ValueId, TrainError> {
        let Some(clusters) = &self.clusters else { return Ok(trained) };
        let codes = e.constant("codes", Tensor::i64(shape, clusters.codes.clone()));
        e.op(Gather { axis: 0 }, &[trained, codes])
    }

    /// The gradient of the trained tensor from that of what layers read.
    pub(super) fn pull_back(
        &self,
        e: &mut Emit<'_>,
        trained: ValueId,
        gradient: ValueId,
    ) -> Result<ValueId, TrainError> {
        let Some(clusters) = &self.clusters else { return Ok(gradient) };
        let codes = e.constant("codes", Tensor::i64([clusters.codes.len()], clusters.codes.clone()));
        let flat = e.reshape(gradient, &[clusters.codes.len()])?;
        let zeros = e.zeros_like(trained)?;
        e.op(ScatterElements { axis: 0, reduction: ScatterReduction::Add }, &[zeros, codes, flat])
    }
}
