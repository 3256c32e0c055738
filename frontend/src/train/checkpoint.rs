//! Where a run stands, in one file: an `.npz` of the state of training, the model the stage began with, and
//! what is said about both in JSON.
//!
//! The file is replaced in one step, so a run that is killed goes on from the last epoch that it finished, and
//! gives the weights it would have given.

use std::path::Path;

use optc_ir::{Data, Graph, Tensor};
use optc_passes::train::TrainState;
use serde::{Deserialize, Serialize};

use super::history::History;
use crate::data::{self, Arrays};
use crate::error::Error;
use crate::files::{self, Format};
use crate::{model, pack};

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checkpoint {
    pub(super) position: Position,
    /// The model as it came into the stage.
    pub(super) graph: Graph,
    /// Parameters and optimizer, if the stage has begun to train.
    pub(super) state: Option<TrainState>,
}

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    /// What is trained, by which recipe and from which seed: a run goes on from its own checkpoints alone.
    pub(super) run: String,
    /// The stage, from 0.
    pub(super) stage: usize,
    /// Epochs of the stage that are done.
    pub(super) epoch: usize,
    /// Weights of each layer that were not zero at first.
    pub(super) original: Vec<(String, usize)>,
    /// The least test error of the stage so far.
    pub(super) best: Option<f64>,
    /// What happened so far.
    pub(super) history: History,
}

const POSITION: &str = "optc:position";
const GRAPH: &str = "optc:graph";

impl Checkpoint {
    /// Writes the file.
    ///
    /// # Errors
    /// [`Error::File`] naming it.
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = |bytes: Vec<u8>| Tensor::new([bytes.len()], Data::U8(bytes));
        let position = bytes(crate::report::to_json(&self.position).into_bytes());
        let graph = bytes(model::to_bytes(&self.graph, Format::Optc)?);
        let own = [(POSITION, &position), (GRAPH, &graph)];
        let state = self.state.iter().flat_map(|state| state.0.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        files::write(path, &data::write_npz(own.into_iter().chain(state))?)
    }

    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`Error::Data`] if it is none of these.
    pub(super) fn read(path: &Path) -> Result<Option<Checkpoint>, Error> {
        if !path.exists() {
            return Ok(None);
        }
        let wrong = |what: &str| Error::Data(format!("{}: {what}; --fresh begins anew", path.display()));
        let Arrays::Named(mut arrays) = data::read_arrays(path)? else { return Err(wrong("not a checkpoint")) };
        let mut take = |name: &str| {
            let at = arrays.iter().position(|(known, _)| known == name);
            match at.map(|at| arrays.remove(at).1.into_parts().1) {
                Some(Data::U8(bytes)) => Ok(bytes),
                _ => Err(wrong("not a checkpoint")),
            }
        };
        let position = serde_json::from_slice(&take(POSITION)?).map_err(|e| wrong(&e.to_string()))?;
        let graph = pack::read(&take(GRAPH)?).map_err(|source| Error::Unpack { path: path.to_owned(), source })?;
        let state = (!arrays.is_empty()).then_some(TrainState(arrays));
        Ok(Some(Checkpoint { position, graph, state }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.npz");
        assert_eq!(Checkpoint::read(&path).unwrap(), None);
        let graph = crate::architectures::build(
            "mlp",
            &crate::architectures::NewOptions { widths: vec![4, 3], ..Default::default() },
        )
        .unwrap();
        let position = Position {
            run: "r".to_owned(),
            stage: 2,
            epoch: 1,
            original: vec![("fc1".to_owned(), 12)],
            best: Some(1.5),
            history: History::default(),
        };
        let state = Some(TrainState(vec![("w".to_owned(), Tensor::f32([2], [1.0, -0.5]))]));
        for state in [state, None] {
            let checkpoint = Checkpoint { position: position.clone(), graph: graph.clone(), state };
            checkpoint.write(&path).unwrap();
            let back = Checkpoint::read(&path).unwrap().unwrap();
            assert_eq!((&back.position, &back.state), (&checkpoint.position, &checkpoint.state));
            let text = |graph: &Graph| model::to_bytes(graph, Format::Ir).unwrap();
            assert_eq!(text(&back.graph), text(&graph));
        }
        std::fs::write(&path, data::write_npy(&Tensor::f32([1], [0.0]))).unwrap();
        assert!(Checkpoint::read(&path).unwrap_err().to_string().contains("--fresh"));
    }
}
