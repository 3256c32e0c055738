//! What a model expects of raw data: a factor, a mean and a deviation.

use std::fmt;

use optc_ir::Graph;
use serde::{Deserialize, Serialize};

use super::ArrayError;
use crate::error::Error;
use crate::onnx;

/// Under which key the metadata of a model have it.
const KEY: &str = "optc.scaling";

/// The affine map from raw elements to what a model of floats expects: `(x·scale − mean) / std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Factor, applied first.
    pub scale: f64,
    /// Subtracted: one number, or one a channel.
    pub mean: Vec<f64>,
    /// Divided by: one number, or one a channel.
    pub std: Vec<f64>,
}

impl Default for Scaling {
    fn default() -> Scaling {
        Scaling { scale: 1.0, mean: vec![0.0], std: vec![1.0] }
    }
}

impl Scaling {
    pub(super) fn is_identity(&self) -> bool {
        *self == Scaling::default()
    }

    pub(super) fn channels(&self) -> usize {
        self.mean.len().max(self.std.len())
    }

    pub(super) fn apply(&self, x: f64, channel: usize) -> f64 {
        let of = |v: &[f64]| v[if v.len() == 1 { 0 } else { channel }];
        (x * self.scale - of(&self.mean)) / of(&self.std)
    }

    /// # Errors
    /// If the numbers don't go together, or would make others infinite.
    pub(super) fn check(&self) -> Result<(), ArrayError> {
        let Scaling { scale, mean, std } = self;
        if mean.is_empty() || std.is_empty() || (mean.len() > 1 && std.len() > 1 && mean.len() != std.len()) {
            return Err(ArrayError::new(format!(
                "{} means and {} deviations don't go together",
                mean.len(),
                std.len()
            )));
        }
        if !scale.is_finite() || mean.iter().any(|m| !m.is_finite()) || std.iter().any(|s| !s.is_finite() || *s == 0.0)
        {
            return Err(ArrayError::new("scale, mean and std must be finite, and std not zero"));
        }
        Ok(())
    }

    /// What the model says its data are scaled by, in its metadata.
    ///
    /// # Errors
    /// [`Error::Data`] if it says it in another way.
    pub fn recorded(graph: &Graph) -> Result<Option<Scaling>, Error> {
        let Some(text) = onnx::metadata(graph, KEY)? else { return Ok(None) };
        let wrong = |what: String| Error::Data(format!("metadata {KEY} = {text:?} of the model: {what}"));
        let scaling: Scaling = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        scaling.check().map_err(|error| wrong(error.to_string()))?;
        Ok(Some(scaling))
    }

    /// Writes into the metadata of a model what its data are scaled by.
    ///
    /// # Errors
    /// If the header of the graph is damaged.
    pub fn record(&self, graph: &mut Graph) -> Result<(), Error> {
        let text = serde_json::to_string(self).expect("numbers can be written");
        Ok(onnx::set_metadata(graph, KEY, &text)?)
    }
}

/// As it is given on the command line.
impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |numbers: &[f64]| match numbers {
            [one] => one.to_string(),
            all => format!("{all:?}"),
        };
        let scale = match self.scale {
            scale if scale < 1.0 && (1.0 / scale).fract() == 0.0 => format!("1/{}", 1.0 / scale),
            scale => scale.to_string(),
        };
        write!(f, "scale {scale}, mean {}, std {}", numbers(&self.mean), numbers(&self.std))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_remember_the_scaling_of_their_data() {
        let mut graph = Graph::new("g");
        assert_eq!(Scaling::recorded(&graph).unwrap(), None);
        let first = Scaling { scale: 1.0 / 255.0, mean: vec![0.5], std: vec![0.25, 0.5, 1.0] };
        first.record(&mut graph).unwrap();
        assert_eq!(Scaling::recorded(&graph).unwrap(), Some(first));
        Scaling::default().record(&mut graph).unwrap();
        assert_eq!(Scaling::recorded(&graph).unwrap(), Some(Scaling::default()));
        for text in ["none", r#"{"scale":1.0,"mean":[0.0],"std":[0.0]}"#] {
            onnx::set_metadata(&mut graph, KEY, text).unwrap();
            assert!(Scaling::recorded(&graph).unwrap_err().to_string().contains(KEY));
        }
    }
}
