use super::*;
use crate::tile::testing::{GUARD, places, result, span};

fn check(shape: &[usize], from: &[i64], to: &[i64]) {
    let x: Vec<f32> = (0..span(shape, from)).map(|i| i as f32 / 4.0).collect();
    let mut expected = vec![GUARD; span(shape, to)];
    places(shape, to).iter().zip(places(shape, from)).for_each(|(&to, from)| expected[to] = x[from]);
    let copy = Copy::new(shape, from, to);
    let y = result(&copy, |vectors| copy.schedule(vectors), &[x], expected.len());
    let wrong = y.iter().zip(&expected).position(|(y, e)| y != e);
    assert_eq!(wrong, None, "{copy:?}");
}

/// Strides, in bytes, of a whole tensor whose axes lie in memory in this order, the outermost first.
fn strides(shape: &[usize], order: &[usize]) -> Vec<i64> {
    let mut strides = vec![0; shape.len()];
    let mut stride = 4;
    for &axis in order.iter().rev() {
        strides[axis] = stride;
        stride *= signed(shape[axis]);
    }
    strides
}

#[test]
fn permutations() {
    for shape in [[2, 3, 5, 7], [1, 16, 32, 16], [3, 17, 1, 33], [2, 5, 40, 19], [1, 1, 1, 1], [1, 2, 100, 3]] {
        for order in [[0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2], [0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [2, 0, 3, 1]]
        {
            check(&shape, &strides(&shape, &[0, 1, 2, 3]), &strides(&shape, &order));
            check(&shape, &strides(&shape, &order), &strides(&shape, &[0, 1, 2, 3]));
        }
    }
}

#[test]
fn transposed_matrices() {
    for rows in [1, 2, 4, 15, 16, 17, 31, 33, 100] {
        for columns in [1, 3, 15, 16, 17, 33, 130] {
            let shape = [3, rows, columns];
            check(&shape, &strides(&shape, &[0, 1, 2]), &strides(&shape, &[0, 2, 1]));
        }
    }
}

#[test]
fn slices_and_broadcasts() {
    for n in [1, 15, 16, 17, 100, 1000, 4097] {
        check(&[n], &[4], &[4]);
        check(&[n], &[0], &[4]);
        check(&[n], &[8], &[4]);
        check(&[n], &[4], &[12]);
        check(&[3, n], &[signed(n) * 8, 8], &[signed(n) * 12, 12]);
        check(&[3, n], &[4, 0], &[signed(n) * 4, 4]);
        check(&[3, n], &[0, 4], &[signed(n) * 4 + 20, 4]);
    }
    check(&[], &[], &[]);
    check(&[5, 1], &[64, 4], &[64, 4]);
}

/// A row read backwards.
#[test]
fn negative_strides() {
    let x: Vec<f32> = (0..50).map(|i| i as f32).collect();
    let schedule = |vectors| {
        let mut schedule = Copy::new(&[50], &[-4], &[4]).schedule(vectors);
        schedule.parts.iter_mut().for_each(|part| part.start[0] += 49 * 4);
        schedule
    };
    let y = result(&"reversal", schedule, std::slice::from_ref(&x), 50);
    assert!(y.iter().eq(x.iter().rev()));
}
