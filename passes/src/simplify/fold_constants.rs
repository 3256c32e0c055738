//! Evaluates nodes whose operands are all constant.
//!
//! **Applies when** the interpreter can evaluate the node, quickly, and the result is small (`limit`) or takes
//! no more bytes than the constants it makes superfluous: what is expanded when the model runs need not
//! be stored expanded. Dequantization of weights stays for the same reason, whatever its size.
//!
//! Exact: the interpreter is the definition of every operator.

use optc_ir::interp::eval;
use optc_ir::{Graph, NodeId, Op, Tensor, Type};

use crate::analysis::cost;
use crate::error::{OptionError, PassError};
use crate::options::{Options, Written};
use crate::pass::{Effect, Pass, PassCx};
use crate::rewrite::{detach, replace_by_constant};

/// The pass; see the module.
pub struct FoldConstants {
    /// Results of up to this many bytes may be stored even if their operands took less.
    pub limit: usize,
}

impl Default for FoldConstants {
    fn default() -> FoldConstants {
        FoldConstants { limit: 64 << 10 }
    }
}

impl FoldConstants {
    /// From the options of a pipeline.
    ///
    /// # Errors
    /// If an option has a wrong value.
    pub fn from_options(options: &mut Options) -> Result<FoldConstants, OptionError> {
        Ok(FoldConstants { limit: options.take_or("limit", FoldConstants::default().limit)? })
    }
}

impl Pass for FoldConstants {
    fn name(&self) -> &'static str {
        "fold-constants"
    }

    fn effect(&self) -> Effect {
        Effect::Exact
    }

    fn options(&self) -> String {
        Written::default().option("limit", &self.limit, &FoldConstants::default().limit).finish()
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let operands = graph.operands(node);
            let constant = operands.iter().flatten().all(|value| graph.constant(*value).is_some());
            let structural = matches!(graph.op(node), Op::Opaque(_) | Op::Return(_) | Op::DequantizeLinear(_));
            if operands.is_empty() || !constant || structural {
                continue;
            }
            match self.fold(graph, node) {
                Ok(()) => cx.applied(graph, node, "evaluated"),
                Err(reason) => cx.missed(graph, node, reason),
            }
        }
        Ok(())
    }
}

/// Multiply-accumulates the interpreter may spend on one node: a second or so.
const MAX_MACS: u64 = 1 << 27;

impl FoldConstants {
    fn fold(&self, graph: &mut Graph, node: NodeId) -> Result<(), String> {
        let operands = graph.operands(node);
        let freed = |slot: usize| {
            let value = operands[slot]?;
            let sole = graph.sole_user(value) == Some(node);
            graph.constant(value).filter(|_| sole).map(|constant| constant.stored_bytes())
        };
        let allowed = (0..operands.len()).filter_map(freed).sum::<usize>().max(self.limit);
        let bytes = result_bytes(graph, node).ok_or("the size of the result is unknown")?;
        if bytes > allowed {
            return Err(format!("the result would take {bytes} bytes, {allowed} are allowed"));
        }
        if cost::macs(graph, node, &mut Vec::new()) > MAX_MACS {
            return Err("evaluation would take too long".to_owned());
        }
        let tensors: Vec<Option<Tensor>> =
            operands.iter().map(|value| Some(graph.constant((*value)?)?.decode())).collect();
        let borrowed: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
        let results = eval(graph.op(node), &borrowed).map_err(|error| error.to_string())?;
        for (i, result) in results.into_iter().enumerate() {
            replace_by_constant(graph, node.result(i), result);
        }
        if !matches!(graph.op(node), Op::Const(_)) {
            detach(graph, node);
        }
        Ok(())
    }
}

/// Bytes of all results that are used.
fn result_bytes(graph: &Graph, node: NodeId) -> Option<usize> {
    let used = (0..graph.result_count(node)).map(|i| node.result(i)).filter(|v| !graph.uses(*v).is_empty());
    let bytes = |value| match graph.ty(value) {
        Type::Tensor(ty) => Some(ty.dtype.bytes(ty.numel()?)),
        Type::Unknown => None,
    };
    used.map(bytes).try_fold(0usize, |sum, b| sum.checked_add(b?))
}
