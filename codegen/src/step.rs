//! Steps: graphs run many times in a row, whose residents stay in the arena between runs.
//!
//! There is a plan for each set of shapes that runs are given; residents are in the memory of the plan that ran
//! last, and move when another one runs.

use optc_ir::step::StepLayout;
use optc_ir::{ExecError, Graph, Resident, StepExecutable, StepTime, Tensor, TensorType};

use crate::choice::Selection;
use crate::executable::JitExecutable;
use crate::target::Target;

/// A step compiled for each set of shapes it meets.
pub(crate) struct JitStep {
    layout: StepLayout,
    executable: JitExecutable,
    /// The plan that has the residents, by its place among those that were compiled.
    current: Option<usize>,
    /// The residents while no plan has them; what was not set yet is nothing.
    outside: Vec<Option<Tensor>>,
    /// The shapes of all inputs in the last run.
    shapes: Vec<Vec<usize>>,
}

impl JitStep {
    pub(crate) fn new(
        graph: Graph,
        residents: &[Resident],
        target: Target,
        selection: &Selection,
    ) -> Result<JitStep, ExecError> {
        let layout = StepLayout::new(&graph, residents)?;
        let executable = JitExecutable::with_residents(graph, target, selection, residents)?;
        let (outside, shapes) = (vec![None; residents.len()], vec![Vec::new(); layout.inputs.len()]);
        Ok(JitStep { layout, executable, current: None, outside, shapes })
    }

    /// Makes the plan for these inputs the one that has the residents, and hands it the inputs.
    fn begin(&mut self, inputs: &[Tensor]) -> Result<usize, ExecError> {
        let JitStep { layout, .. } = self;
        if inputs.len() != layout.given.len() {
            let message = format!("{} inputs given, the step takes {}", inputs.len(), layout.given.len());
            return Err(ExecError::Signature(message));
        }
        for (&slot, value) in layout.given.iter().zip(inputs) {
            let (name, ty) = &layout.inputs[slot];
            let wanted = ty.as_tensor();
            if !wanted.is_some_and(|wanted| fits(wanted, value)) {
                return Err(ExecError::Signature(format!("input {name} has type {}, expected {ty}", value.ty())));
            }
        }
        let same = layout.given.iter().zip(inputs).all(|(&slot, value)| self.shapes[slot] == value.shape());
        let index = match self.current {
            Some(index) if same => index,
            _ => self.switch(inputs)?,
        };
        for (&slot, value) in self.layout.given.iter().zip(inputs) {
            self.executable.put(index, slot, value);
        }
        Ok(index)
    }

    /// Moves the residents into the plan for these inputs.
    fn switch(&mut self, inputs: &[Tensor]) -> Result<usize, ExecError> {
        self.take_out()?;
        for (resident, value) in self.layout.residents.iter().zip(&self.outside) {
            let Some(value) = value else { return Err(self.layout.unset(resident.input)) };
            self.shapes[resident.input] = value.shape().to_vec();
        }
        for (&slot, value) in self.layout.given.iter().zip(inputs) {
            self.shapes[slot] = value.shape().to_vec();
        }
        let index = self.executable.compiled_for(&self.shapes)?;
        for (resident, value) in self.layout.residents.iter().zip(&mut self.outside) {
            if let Some(value) = value.take() {
                self.executable.put(index, resident.input, &value);
            }
        }
        self.current = Some(index);
        Ok(index)
    }

    /// Takes the residents out of the plan that has them.
    fn take_out(&mut self) -> Result<(), ExecError> {
        let Some(index) = self.current else { return Ok(()) };
        for (place, resident) in self.layout.residents.iter().enumerate() {
            self.outside[place] = Some(self.executable.get(index, resident.input)?);
        }
        self.current = None;
        Ok(())
    }

    /// The results that come out of a run that is over; residents take their next values.
    fn end(&mut self, index: usize) -> Result<Vec<Tensor>, ExecError> {
        let results = self.layout.returned.iter().map(|&output| self.executable.result(index, output));
        let results = results.collect::<Result<_, _>>()?;
        self.executable.carry(index)?;
        Ok(results)
    }
}

/// Whether a value is of a type; open dimensions take any extent.
fn fits(ty: &TensorType, value: &Tensor) -> bool {
    let shape = value.shape();
    let extents = ty.shape.iter().zip(shape).all(|(dim, &n)| dim.fixed().is_none_or(|m| m == n));
    ty.dtype == value.dtype() && ty.shape.len() == shape.len() && extents
}

impl StepExecutable for JitStep {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecError> {
        let index = self.begin(inputs)?;
        self.executable.run_stages(index)?;
        self.end(index)
    }

    fn profile(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Vec<StepTime>), ExecError> {
        let index = self.begin(inputs)?;
        let times = self.executable.time_stages(index)?;
        Ok((self.end(index)?, times))
    }

    fn set(&mut self, input: usize, value: &Tensor) -> Result<(), ExecError> {
        self.layout.check(input, value)?;
        let place = self.layout.resident(input)?;
        match self.current {
            Some(index) if self.shapes[input] == value.shape() => self.executable.put(index, input, value),
            _ => {
                // Another shape asks for another plan.
                self.take_out()?;
                self.outside[place] = Some(value.clone());
            }
        }
        Ok(())
    }

    fn get(&self, input: usize) -> Result<Tensor, ExecError> {
        let place = self.layout.resident(input)?;
        match self.current {
            Some(index) => self.executable.get(index, input),
            None => self.outside[place].clone().ok_or_else(|| self.layout.unset(input)),
        }
    }
}
