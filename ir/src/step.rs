//! Steps whose parameters stay inside between runs, on top of any [`Executable`], and the checks that every
//! implementation of [`StepExecutable`] shares.

use crate::error::ExecError;
use crate::exec::{Executable, Resident, StepExecutable, StepTime};
use crate::graph::Graph;
use crate::tensor::Tensor;
use crate::types::{Dim, Type};

/// Which inputs of a graph stay inside, which are given with each run, and which results come out.
#[derive(Clone, Debug)]
pub struct StepLayout {
    /// Name and type of every input, in signature order.
    pub inputs: Vec<(String, Type)>,
    /// The residents, as they were given.
    pub residents: Vec<Resident>,
    /// The inputs that each run is given, by their places in the signature, in order.
    pub given: Vec<usize>,
    /// The results that come out of each run, by their places in the signature, in order.
    pub returned: Vec<usize>,
}

impl StepLayout {
    /// The layout of a graph with these residents.
    ///
    /// # Errors
    /// [`ExecError::Signature`] if an input or result does not exist or is named twice, or if a result has
    /// another type than the input whose place it takes.
    pub fn new(graph: &Graph, residents: &[Resident]) -> Result<StepLayout, ExecError> {
        let signature = graph.signature();
        let (mut inside, mut taken) = (vec![false; signature.inputs.len()], vec![false; signature.results.len()]);
        let wrong = |message: String| Err(ExecError::Signature(message));
        for resident in residents {
            let Some((name, ty)) = signature.inputs.get(resident.input) else {
                return wrong(format!("there is no input {} to be resident", resident.input));
            };
            if std::mem::replace(&mut inside[resident.input], true) {
                return wrong(format!("input {name} is resident twice"));
            }
            let Some(output) = resident.output else { continue };
            let Some((result, result_ty)) = signature.results.get(output) else {
                return wrong(format!("there is no result {output} to take the place of input {name}"));
            };
            if std::mem::replace(&mut taken[output], true) {
                return wrong(format!("result {result} takes the place of two inputs"));
            }
            if result_ty != ty {
                return wrong(format!("result {result} of type {result_ty} can't take the place of {name}, {ty}"));
            }
        }
        let not = |flags: &[bool]| (0..flags.len()).filter(|&i| !flags[i]).collect();
        let (given, returned) = (not(&inside), not(&taken));
        Ok(StepLayout { inputs: signature.inputs, residents: residents.to_vec(), given, returned })
    }

    /// Checks a value for a resident.
    ///
    /// # Errors
    /// [`ExecError::Signature`] if the input is not resident, or the value not of its type.
    pub fn check(&self, input: usize, value: &Tensor) -> Result<(), ExecError> {
        self.resident(input)?;
        let (name, ty) = &self.inputs[input];
        let Type::Tensor(ty) = ty else { return Ok(()) };
        let fits = |(dim, &n): (&Dim, &usize)| dim.fixed().is_none_or(|m| m == n);
        let shape = value.shape();
        if ty.dtype == value.dtype() && ty.rank() == shape.len() && ty.shape.iter().zip(shape).all(fits) {
            return Ok(());
        }
        Err(ExecError::Signature(format!("input {name} has type {}, expected {ty}", value.ty())))
    }

    /// Where among the residents an input is.
    ///
    /// # Errors
    /// [`ExecError::Signature`] if it is not resident.
    pub fn resident(&self, input: usize) -> Result<usize, ExecError> {
        self.residents.iter().position(|r| r.input == input).ok_or_else(|| {
            let name = self.inputs.get(input).map_or("", |(name, _)| name);
            ExecError::Signature(format!("input {input} ({name}) is not resident"))
        })
    }

    /// The error that a resident has no value.
    pub fn unset(&self, input: usize) -> ExecError {
        ExecError::Signature(format!("resident input {} has no value yet", self.inputs[input].0))
    }
}

/// A step that hands tensors to an [`Executable`] and takes them back.
pub(crate) struct MovedStep {
    layout: StepLayout,
    executable: Box<dyn Executable>,
    /// One tensor an input; what was not set yet, or not given yet, is empty.
    inputs: Vec<Tensor>,
    set: Vec<bool>,
}

impl MovedStep {
    pub(crate) fn new(layout: StepLayout, executable: Box<dyn Executable>) -> MovedStep {
        let inputs = vec![Tensor::f32([0], []); layout.inputs.len()];
        let set = vec![false; layout.residents.len()];
        MovedStep { layout, executable, inputs, set }
    }
}

impl MovedStep {
    /// Stores what a run is given.
    fn begin(&mut self, inputs: &[Tensor]) -> Result<(), ExecError> {
        let layout = &self.layout;
        if inputs.len() != layout.given.len() {
            let message = format!("{} inputs given, the step takes {}", inputs.len(), layout.given.len());
            return Err(ExecError::Signature(message));
        }
        if let Some(at) = self.set.iter().position(|set| !set) {
            return Err(layout.unset(layout.residents[at].input));
        }
        for (&slot, input) in layout.given.iter().zip(inputs) {
            self.inputs[slot].clone_from(input);
        }
        Ok(())
    }

    /// The results that come out of a run; residents take their next values.
    fn end(&mut self, results: Vec<Tensor>) -> Vec<Tensor> {
        let mut results: Vec<Option<Tensor>> = results.into_iter().map(Some).collect();
        for resident in &self.layout.residents {
            if let Some(next) = resident.output.and_then(|output| results[output].take()) {
                self.inputs[resident.input] = next;
            }
        }
        results.into_iter().flatten().collect()
    }
}

impl StepExecutable for MovedStep {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecError> {
        self.begin(inputs)?;
        let results = self.executable.run(&self.inputs)?;
        Ok(self.end(results))
    }

    fn profile(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<StepTime>), ExecError> {
        self.begin(inputs)?;
        let (results, times) = self.executable.profile(&self.inputs)?;
        Ok((self.end(results), times))
    }

    fn set(&mut self, input: usize, value: &Tensor) -> Result<(), ExecError> {
        self.layout.check(input, value)?;
        self.set[self.layout.resident(input)?] = true;
        self.inputs[input].clone_from(value);
        Ok(())
    }

    fn get(&self, input: usize) -> Result<Tensor, ExecError> {
        let at = self.layout.resident(input)?;
        if self.set[at] { Ok(self.inputs[input].clone()) } else { Err(self.layout.unset(input)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Interp, text};

    fn counter() -> Graph {
        text::parse(
            "graph @counter(%step: f32[], %count: f32[2], %scale: f32[]) -> (loss: f32[2], next: f32[2]) {
               %next = add(%count, %step)
               %loss = mul(%next, %scale)
               return %loss, %next
             }",
        )
        .expect("the text is right")
    }

    #[test]
    fn residents_carry_over_from_run_to_run() {
        let residents = [Resident { input: 1, output: Some(1) }, Resident { input: 2, output: None }];
        let mut step = Interp.compile_step(counter(), &residents).unwrap();
        let one = [Tensor::f32([], [1.0])];
        assert!(step.run(&one).unwrap_err().to_string().contains("count has no value"));
        step.set(1, &Tensor::f32([2], [0.0, 5.0])).unwrap();
        step.set(2, &Tensor::f32([], [10.0])).unwrap();
        assert_eq!(step.run(&one).unwrap(), [Tensor::f32([2], [10.0, 60.0])]);
        assert_eq!(step.run(&one).unwrap(), [Tensor::f32([2], [20.0, 70.0])]);
        assert_eq!(step.get(1).unwrap(), Tensor::f32([2], [2.0, 7.0]));
        assert_eq!(step.get(2).unwrap(), Tensor::f32([], [10.0]));
        assert!(step.run(&[Tensor::f32([2], [1.0, 1.0])]).is_err());
        assert_eq!(step.get(1).unwrap(), Tensor::f32([2], [2.0, 7.0]), "a failed run moves nothing");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let compile = |residents: &[Resident]| Interp.compile_step(counter(), residents).map(|_| ());
        let resident = |input, output| Resident { input, output };
        assert!(compile(&[resident(3, None)]).is_err());
        assert!(compile(&[resident(1, Some(2))]).is_err());
        assert!(compile(&[resident(1, None), resident(1, None)]).is_err());
        assert!(compile(&[resident(0, Some(1))]).unwrap_err().to_string().contains("can't take the place"));
        let mut step = Interp.compile_step(counter(), &[resident(1, Some(1))]).unwrap();
        assert!(step.set(1, &Tensor::f32([3], [0.0; 3])).is_err());
        assert!(step.set(0, &Tensor::f32([], [0.0])).is_err());
        assert!(step.get(2).unwrap_err().to_string().contains("scale"));
    }
}
