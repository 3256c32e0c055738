//! A pass of one's own in a pipeline of one's own: `cargo run --release --example embed -- model.onnx out.optc`.

use optc::ir::{Constant, Data, Graph, Interp, Op, Tensor};
use optc::passes::{Effect, Pass, PassCx, PassError, PassManager, pipeline};

/// Keeps eight bits of the mantissa of every weight of a convolution.
struct RoundWeights;

impl Pass for RoundWeights {
    fn name(&self) -> &'static str {
        "round-weights"
    }

    fn effect(&self) -> Effect {
        Effect::Lossy
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx<'_>) -> Result<(), PassError> {
        for node in graph.topo_order() {
            let Op::Conv(_) = graph.op(node) else { continue };
            let Some(weight) = graph.constant_operand(node, 1).map(|constant| constant.decode()) else { continue };
            let Some(values) = weight.as_f32() else { continue };
            let round = |x: &f32| f32::from_bits(x.to_bits().saturating_add(1 << 14) & !0x7fff);
            let rounded = values.iter().map(round).collect();
            let constant = Constant::dense(Tensor::new(weight.shape(), Data::F32(rounded)));
            graph.set_constant_operand(node, 1, constant);
            cx.applied(graph, node, "rounded its weights to eight bits of mantissa");
        }
        Ok(())
    }
}

fn main() -> Result<(), optc::Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = args.as_slice() else { return Err(optc::Error::Usage("embed MODEL OUTPUT".to_owned())) };
    let mut graph = optc::load(input)?;
    let passes = pipeline::parse("simplify")?.then(RoundWeights).then_all(pipeline::parse("encode-weights")?);
    let report = PassManager::new(&Interp).run(&passes, &mut graph)?;
    let (before, after) = (report.before.stored_bytes, report.after.stored_bytes);
    eprintln!("{passes}: {before} bytes of constants before, {after} after");
    optc::save(&graph, output)
}
