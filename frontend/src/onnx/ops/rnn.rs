//! Recurrent layers.

use onnx_protobuf::AttributeProto;
use optc_ir::op::*;

use crate::onnx::attrs::{self, Refusal};
use crate::onnx::error::ExportError;
use crate::onnx::source::{Mapped, Source};
use crate::onnx::target::Target;

pub(super) fn import(mut s: Source<'_>) -> Result<Mapped, Refusal> {
    let units = s.ty(2).and_then(|r| r.shape.get(2)?.fixed());
    let hidden_size = s.attrs.count_or("hidden_size", units.unwrap_or(0))?;
    let word = s.attrs.string_or("direction", "forward")?;
    let direction = Direction::from_word(word).ok_or_else(|| format!("direction={word}"))?;
    let batch_first = s.attrs.bool_or("layout", false)?;
    let activations = s.attrs.strings("activations")?;
    let activation_alpha = s.attrs.floats("activation_alpha")?.unwrap_or_default();
    let activation_beta = s.attrs.floats("activation_beta")?.unwrap_or_default();
    let clip = s.attrs.float("clip")?;
    match s.op_type {
        "RNN" => {
            s.direct(Rnn { hidden_size, direction, batch_first, activations, activation_alpha, activation_beta, clip })
        }
        "GRU" => {
            let linear_before_reset = s.attrs.bool_or("linear_before_reset", false)?;
            s.direct(Gru {
                hidden_size,
                direction,
                batch_first,
                activations,
                activation_alpha,
                activation_beta,
                clip,
                linear_before_reset,
            })
        }
        _ => {
            let input_forget = s.attrs.bool_or("input_forget", false)?;
            s.direct(Lstm {
                hidden_size,
                direction,
                batch_first,
                activations,
                activation_alpha,
                activation_beta,
                clip,
                input_forget,
            })
        }
    }
}

/// The attributes all three layers share.
struct Common<'a> {
    hidden_size: usize,
    direction: Direction,
    batch_first: bool,
    activations: &'a [String],
    alpha: &'a [f32],
    beta: &'a [f32],
    clip: Option<f32>,
}

impl Common<'_> {
    fn list(&self, t: &Target<'_>) -> Result<Vec<AttributeProto>, ExportError> {
        let mut list = vec![attrs::int("hidden_size", attrs::i64_of(self.hidden_size))];
        if self.direction != Direction::Forward {
            list.push(attrs::string("direction", self.direction.word()));
        }
        if self.batch_first {
            t.need("layout", 14)?;
            list.push(attrs::int("layout", 1));
        }
        if !self.activations.is_empty() {
            list.push(attrs::strings("activations", self.activations));
        }
        for (name, values) in [("activation_alpha", self.alpha), ("activation_beta", self.beta)] {
            if !values.is_empty() {
                list.push(attrs::floats(name, values));
            }
        }
        list.extend(self.clip.map(|clip| attrs::float("clip", clip)));
        Ok(list)
    }
}

macro_rules! common {
    ($a:ident) => {
        Common {
            hidden_size: $a.hidden_size,
            direction: $a.direction,
            batch_first: $a.batch_first,
            activations: &$a.activations,
            alpha: &$a.activation_alpha,
            beta: &$a.activation_beta,
            clip: $a.clip,
        }
    };
}

pub(super) fn export(op: &Op, t: &mut Target<'_>) -> Result<(), ExportError> {
    match op {
        Op::Rnn(a) => {
            let list = common!(a).list(t)?;
            t.emit("RNN", list);
        }
        Op::Gru(a) => {
            let mut list = common!(a).list(t)?;
            if a.linear_before_reset {
                list.push(attrs::int("linear_before_reset", 1));
            }
            t.emit("GRU", list);
        }
        Op::Lstm(a) => {
            let mut list = common!(a).list(t)?;
            if a.input_forget {
                list.push(attrs::int("input_forget", 1));
            }
            t.emit("LSTM", list);
        }
        _ => unreachable!("the table sends only this family here"),
    }
    Ok(())
}
