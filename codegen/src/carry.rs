//! Residents: inputs of a step that stay in the arena, and the results that take their places.
//!
//! A result is computed in the place of the resident it replaces where the kernel that writes it reads the
//! resident element by element, for the last time. The others are moved when the run is over.
//!
//! Invariant: what a run may fail in comes before whatever writes a resident, so that a failed run leaves
//! residents as they were.

use optc_ir::Resident;

use crate::plan::{Arg, Home, Plan, Step, StepKind};

impl Plan {
    /// Makes residents stay, and decides how each gets its next value.
    pub(crate) fn carry(&mut self, residents: &[Resident]) {
        for resident in residents {
            if let Home::Place(place, _) = &self.inputs[resident.input] {
                self.buffers[place.buffer].kept = true;
            }
        }
        for resident in residents {
            let Some(output) = resident.output else { continue };
            if !self.compute_in_place(resident.input, output) {
                self.moves.push((self.results[output].clone(), self.inputs[resident.input].clone()));
            }
        }
    }

    /// Lets a result be computed where an input lies, if that is possible.
    fn compute_in_place(&mut self, input: usize, output: usize) -> bool {
        let (Home::Place(from, shape), Home::Place(to, _)) = (&self.inputs[input], &self.results[output]) else {
            return false;
        };
        let (old, new) = (from.buffer, to.buffer);
        let plain = from.layout.is_plain(shape) && to.layout.is_plain(shape);
        if !plain || old == new || self.buffers[new].kept || self.buffers[old].bytes != self.buffers[new].bytes {
            return false;
        }
        let Some(at) = self.steps.iter().position(|step| touches(step, new)) else { return false };
        let fails = |step: &Step| !matches!(step.kind, StepKind::Kernel { .. });
        let later = &self.steps[at + 1..];
        if later.iter().any(|step| touches(step, old) || fails(step)) {
            return false;
        }
        // A step that may still run when this one begins must not read what this one writes.
        let before = self.steps[..at].iter().rev();
        let overlaps = |step: &&Step| matches!(step.kind, StepKind::Kernel { overlaps_next: true, .. });
        if before.take_while(overlaps).any(|step| touches(step, old)) {
            return false;
        }
        let StepKind::Kernel { args, in_place: Some((read, written)), .. } = &self.steps[at].kind else {
            return false;
        };
        let once = args.iter().filter(|arg| matches!(arg, Arg::Buffer(i, _) if *i == old)).count() == 1;
        if !once || args[*read] != Arg::Buffer(old, 0) || args[*written] != Arg::Buffer(new, 0) {
            return false;
        }
        let in_old = |home: &Home| matches!(home, Home::Place(place, _) if place.buffer == old);
        if self.results.iter().any(in_old) {
            return false;
        }
        self.replace(new, old);
        true
    }

    /// Puts one buffer in the place of another everywhere.
    fn replace(&mut self, from: usize, to: usize) {
        let home = |home: &mut Home| {
            if let Home::Place(place, _) = home
                && place.buffer == from
            {
                place.buffer = to;
            }
        };
        let arg = |arg: &mut Arg| {
            if let Arg::Buffer(buffer, _) = arg
                && *buffer == from
            {
                *buffer = to;
            }
        };
        for step in &mut self.steps {
            match &mut step.kind {
                StepKind::Kernel { args, .. } => args.iter_mut().for_each(arg),
                StepKind::Interp { operands, results, .. } => {
                    operands.iter_mut().flatten().chain(results).for_each(home);
                }
                StepKind::Gather(gather) => {
                    arg(&mut gather.from);
                    home(&mut gather.indices);
                    if gather.to == from {
                        gather.to = to;
                    }
                }
                StepKind::Convert(convert) => {
                    home(&mut convert.from);
                    if convert.to == from {
                        convert.to = to;
                    }
                }
            }
        }
        self.inputs.iter_mut().chain(&mut self.results).for_each(home);
    }
}

/// Whether a step reads or writes a buffer.
fn touches(step: &Step, buffer: usize) -> bool {
    let arg = |arg: &Arg| matches!(arg, Arg::Buffer(i, _) if *i == buffer);
    let home = |home: &Home| matches!(home, Home::Place(place, _) if place.buffer == buffer);
    match &step.kind {
        StepKind::Kernel { args, .. } => args.iter().any(arg),
        StepKind::Interp { operands, results, .. } => operands.iter().flatten().chain(results).any(home),
        StepKind::Gather(gather) => arg(&gather.from) || home(&gather.indices) || gather.to == buffer,
        StepKind::Convert(convert) => home(&convert.from) || convert.to == buffer,
    }
}
