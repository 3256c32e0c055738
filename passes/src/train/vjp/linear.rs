//! Matrix products. For Y = A·B: Ā = Ȳ·Bᵀ and B̄ = Aᵀ·Ȳ (Giles 2008, "An extended collection of matrix derivative
//! results", section 2.2.2).

use optc_ir::op::einsum::Equation;
use optc_ir::op::{Einsum, Gemm, Linear};
use optc_ir::{Op, ValueId};

use super::super::emit::Emit;
use super::conv::before_act;
use super::{Cx, Gradients};

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    match op {
        Op::MatMul(_) => matmul(e, cx, dy),
        Op::Gemm(gemm) => self::gemm(e, gemm, cx, dy),
        Op::Linear(linear) => self::linear(e, linear, cx, dy),
        Op::Einsum(einsum) => self::einsum(e, einsum, cx, dy),
        _ => unreachable!("{} is of another family", op.name()),
    }
}

fn matmul(e: &mut Emit<'_>, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (a, b) = (cx.x(e, 0), cx.x(e, 1));
    let (a_shape, b_shape) = (e.shape(a)?, e.shape(b)?);
    // Vectors are a row on the left and a column on the right.
    let wide = |shape: &[usize], row: bool| match shape {
        &[n] if row => vec![1, n],
        &[n] => vec![n, 1],
        shape => shape.to_vec(),
    };
    let (a_wide, b_wide) = (wide(&a_shape, true), wide(&b_shape, false));
    let mut y_wide = e.shape(dy)?;
    if a_shape.len() == 1 {
        y_wide.insert(y_wide.len() - usize::from(b_shape.len() > 1), 1);
    }
    if b_shape.len() == 1 {
        y_wide.push(1);
    }
    let (a, b, dy) = (e.reshape(a, &a_wide)?, e.reshape(b, &b_wide)?, e.reshape(dy, &y_wide)?);
    let da = if cx.needs(0) {
        let bt = e.swap_last(b)?;
        let da = e.matmul(dy, bt)?;
        let da = e.unbroadcast(da, &a_wide)?;
        Some(e.reshape(da, &a_shape)?)
    } else {
        None
    };
    let db = if cx.needs(1) {
        // One matrix on the right of many rows: all rows at once.
        let db = if b_wide.len() == 2 {
            let (a, dy) = (e.rows(a)?, e.rows(dy)?);
            e.transposed_product(a, dy)?
        } else {
            let at = e.swap_last(a)?;
            let db = e.matmul(at, dy)?;
            e.unbroadcast(db, &b_wide)?
        };
        Some(e.reshape(db, &b_shape)?)
    } else {
        None
    };
    Ok(vec![da, db])
}

/// Y = α·A′·B′ + β·C, where A′ and B′ may be transposed.
fn gemm(e: &mut Emit<'_>, gemm: &Gemm, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (a, b) = (cx.x(e, 0), cx.x(e, 1));
    let product = |trans_a: bool, trans_b: bool| Gemm { alpha: gemm.alpha, trans_a, trans_b, ..Gemm::default() };
    let da = match (cx.needs(0), gemm.trans_a) {
        (false, _) => None,
        (true, false) => Some(e.op(product(false, !gemm.trans_b), &[dy, b])?),
        (true, true) => Some(e.op(product(gemm.trans_b, true), &[b, dy])?),
    };
    let db = match (cx.needs(1), gemm.trans_b) {
        (false, _) => None,
        (true, false) => Some(e.op(product(!gemm.trans_a, false), &[a, dy])?),
        (true, true) => Some(e.op(product(true, gemm.trans_a), &[dy, a])?),
    };
    let dc = if cx.needs(2) {
        let shape = e.shape(cx.x(e, 2))?;
        let dc = e.unbroadcast(dy, &shape)?;
        Some(e.scale(dc, gemm.beta.into())?)
    } else {
        None
    };
    Ok(vec![da, db, dc])
}

/// y = x·wᵀ + b over the last axis: x̄ = ȳ·w, w̄ = ȳᵀ·x over all rows, b̄ = Σȳ.
fn linear(e: &mut Emit<'_>, linear: &Linear, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (x, w) = (cx.x(e, 0), cx.x(e, 1));
    let dz = before_act(e, linear.act, cx, dy)?;
    let dx = if cx.needs(0) { Some(e.matmul(dz, w)?) } else { None };
    let rows = if cx.needs(1) || cx.needs(2) { Some(e.rows(dz)?) } else { None };
    let dw = match rows.filter(|_| cx.needs(1)) {
        Some(rows) => {
            let x = e.rows(x)?;
            Some(e.transposed_product(rows, x)?)
        }
        None => None,
    };
    let db = match rows.filter(|_| cx.needs(2)) {
        Some(rows) => Some(e.sum(rows, &[0], false)?),
        None => None,
    };
    Ok(vec![dx, dw, db])
}

/// The gradient of an operand is the einsum of the others and `dy` with the axes of the operand as its result. What
/// only the operand has was summed, so there its gradient repeats; where it was repeated, its gradient is summed.
fn einsum(e: &mut Emit<'_>, einsum: &Einsum, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let count = e.graph.operands(cx.node).len();
    let shapes: Vec<Vec<usize>> = (0..count).map(|slot| e.shape(cx.x(e, slot))).collect::<Result<_, _>>()?;
    let ranks: Vec<usize> = shapes.iter().map(Vec::len).collect();
    let equation = Equation::parse(&einsum.equation, &ranks).map_err(|error| e.unsupported(error.to_string()))?;
    let repeats = |labels: &Vec<usize>| (1..labels.len()).any(|i| labels[..i].contains(&labels[i]));
    if equation.operands.iter().any(repeats) {
        return Err(e.unsupported("an einsum with a diagonal has no gradient; write it otherwise"));
    }
    let names: Vec<char> = ('a'..='z').chain('A'..='Z').collect();
    if equation.labels > names.len() {
        return Err(e.unsupported(format!("its gradient needs more than {} letters", names.len())));
    }
    let term = |labels: &[usize]| labels.iter().map(|&label| names[label]).collect::<String>();
    let mut gradients = vec![None; count];
    for slot in (0..count).filter(|&slot| cx.needs(slot)) {
        let others: Vec<usize> = (0..count).filter(|&other| other != slot).collect();
        let occurs = |label: &usize| {
            equation.result.contains(label) || others.iter().any(|&o| equation.operands[o].contains(label))
        };
        let axes = || equation.operands[slot].iter().zip(&shapes[slot]);
        let kept: Vec<usize> = axes().filter(|&(label, &n)| occurs(label) && n != 1).map(|(&label, _)| label).collect();
        let mut factors = vec![term(&equation.result)];
        factors.extend(others.iter().map(|&o| term(&equation.operands[o])));
        let mut operands = vec![dy];
        operands.extend(others.iter().map(|&o| cx.x(e, o)));
        let dx = e.op(Einsum { equation: format!("{}->{}", factors.join(","), term(&kept)) }, &operands)?;
        let with_ones: Vec<usize> = axes().map(|(label, &n)| if occurs(label) { n } else { 1 }).collect();
        let dx = e.reshape(dx, &with_ones)?;
        gradients[slot] = Some(e.expand(dx, &shapes[slot])?);
    }
    Ok(gradients)
}
