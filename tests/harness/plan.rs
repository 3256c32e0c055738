//! What must hold of the plan of any graph, on any target.

use optc_codegen::{Plan, Target, Vectors};
use optc_ir::{Graph, Tensor};

/// Numbers of threads plans are made for: tiles are cut by them.
const THREADS: [usize; 2] = [1, 3];

/// Checks the plans of a graph for such inputs: no two buffers that live at the same time overlap, buffers take
/// no more than if each had its own place, and no kernel touches anything but what it is given.
///
/// # Errors
/// What is wrong, and the plan.
pub fn check(graph: &Graph, inputs: &[Tensor]) -> Result<(), String> {
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
    for vectors in Vectors::ALL {
        for threads in THREADS {
            let target = Target { vectors, threads };
            let plan = Plan::for_shapes(graph, &shapes, &target).map_err(|e| e.to_string())?;
            let mut wrong = plan.check_reach(&target);
            wrong.extend(plan.check().iter().map(|(a, b)| format!("buffers {a} and {b} overlap")));
            if plan.arena_bytes() > plan.buffer_bytes() {
                wrong.push(format!("an arena of {} B for {} B", plan.arena_bytes(), plan.buffer_bytes()));
            }
            if !wrong.is_empty() {
                return Err(format!("{vectors}, {threads} threads: {}\n{plan}", wrong.join("\n")));
            }
        }
    }
    Ok(())
}
