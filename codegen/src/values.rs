//! The memory of an executable: the arena that kernels work in, and slots for what has no kernel.

use std::borrow::Cow;

use optc_ir::{Data, ExecError, Tensor};

use crate::convert::convert;
use crate::memory::Memory;
use crate::plan::{Home, Place, Plan};
use crate::transfer::{read, write};

/// The values of one run of a plan.
pub(crate) struct Values {
    pub(crate) arena: Memory,
    slots: Vec<Option<Tensor>>,
}

impl Values {
    /// Memory for the values of a plan.
    ///
    /// # Errors
    /// If the machine has no room for it.
    pub(crate) fn new(plan: &Plan) -> Result<Values, ExecError> {
        Ok(Values { arena: Memory::zeroed(plan.arena / 4)?, slots: vec![None; plan.slots] })
    }

    /// Stores a value. Nothing is allocated where memory of an earlier run can be used again.
    pub(crate) fn put(&mut self, plan: &Plan, home: &Home, tensor: Cow<'_, Tensor>) {
        match home {
            Home::Place(place, shape) => {
                let from = plan.buffers[place.buffer].offset / 4;
                let elements = tensor.as_f32().expect("buffers hold f32 values");
                write(&mut self.arena.numbers_mut()[from..], &place.layout, shape, elements);
            }
            Home::Slot(i) => match (&mut self.slots[*i], tensor) {
                (Some(old), Cow::Borrowed(new)) => old.clone_from(new),
                (slot, new) => *slot = Some(new.into_owned()),
            },
            Home::Constant(_) => unreachable!("constants are not written"),
        }
    }

    /// A value, copied only if it lies in the arena.
    ///
    /// # Errors
    /// If it has not been computed: a bug of the planner.
    pub(crate) fn get<'a>(&'a self, plan: &'a Plan, home: &Home) -> Result<Cow<'a, Tensor>, ExecError> {
        Ok(match home {
            Home::Place(place, shape) => {
                let mut elements = vec![0.0; shape.iter().product()];
                self.read(plan, place, shape, &mut elements);
                Cow::Owned(Tensor::f32(shape.as_slice(), elements))
            }
            Home::Slot(i) => Cow::Borrowed(self.slots[*i].as_ref().ok_or_else(not_computed)?),
            Home::Constant(i) => Cow::Borrowed(&plan.constants[*i]),
        })
    }

    /// [`Values::get`] into a tensor, whose memory is used again if it has the same type and size.
    ///
    /// # Errors
    /// As [`Values::get`].
    pub(crate) fn get_into(&self, plan: &Plan, home: &Home, to: &mut Tensor) -> Result<(), ExecError> {
        if let Home::Place(place, shape) = home
            && to.shape() == shape
            && let Data::F32(elements) = to.data_mut()
        {
            self.read(plan, place, shape, elements);
            return Ok(());
        }
        match self.get(plan, home)? {
            Cow::Borrowed(value) => to.clone_from(value),
            Cow::Owned(value) => *to = value,
        }
        Ok(())
    }

    /// Writes a value that does not lie in the arena there as numbers, from number `to` on.
    ///
    /// # Errors
    /// As [`Values::get`].
    pub(crate) fn convert(&mut self, plan: &Plan, home: &Home, to: usize) -> Result<(), ExecError> {
        let from = match home {
            Home::Slot(i) => self.slots[*i].as_ref().ok_or_else(not_computed)?,
            Home::Constant(i) => &plan.constants[*i],
            Home::Place(..) => unreachable!("numbers in the arena are not converted"),
        };
        convert(from.data(), &mut self.arena.numbers_mut()[to..]);
        Ok(())
    }

    fn read(&self, plan: &Plan, place: &Place, shape: &[usize], elements: &mut [f32]) {
        let from = plan.buffers[place.buffer].offset / 4;
        read(&self.arena.numbers()[from..], &place.layout, shape, elements);
    }
}

fn not_computed() -> ExecError {
    ExecError::Backend("a value is read before it is computed".to_owned())
}
