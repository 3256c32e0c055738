//! Encodings give their elements back bit by bit: random tensors and those made to be hard.

use optc_ir::{Constant, DType, Data, Form, PatternForm, QuantParams, Tensor};
use optc_tests::inputs::random_tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Encodings that hold any tensor.
fn universal() -> Vec<Form> {
    let sparse = |pattern, values| Form::Sparse(pattern, Box::new(values));
    vec![
        Form::Dense,
        Form::Clustered,
        sparse(PatternForm::Bitmap, Form::Dense),
        sparse(PatternForm::Bitmap, Form::Clustered),
        sparse(PatternForm::Csr, Form::Dense),
        sparse(PatternForm::Csr, Form::Clustered),
        sparse(PatternForm::Relative(4), Form::Dense),
        sparse(PatternForm::Relative(8), Form::Clustered),
    ]
}

/// Shapes with no elements, one, many, and extents no block divides.
const SHAPES: &[&[usize]] = &[&[], &[0], &[1], &[7], &[4, 0], &[3, 5], &[8, 16], &[2, 3, 3, 3], &[1, 257]];

/// Checks what holds of every constant that `encode` makes; whether it made one.
fn exact(tensor: &Tensor, form: &Form) -> bool {
    let Ok(constant) = Constant::encode(tensor, form) else { return false };
    let what = || format!("{form} of {tensor:?}");
    assert_eq!(constant.decode(), *tensor, "{}", what());
    assert_eq!(constant.ty(), tensor.ty(), "{}", what());
    assert_eq!(constant.nonzeros(), tensor.data().to_f64().iter().filter(|x| **x != 0.0).count(), "{}", what());
    assert_eq!(constant.hash(), Constant::dense(tensor.clone()).hash(), "the hash is of the elements, {}", what());
    let again = Constant::encode(&constant.decode(), &constant.form());
    assert_eq!(again.as_ref(), Ok(&constant), "encodings are canonical, {}", what());
    let (shape, encoding) = (constant.shape().to_vec(), constant.encoding().clone());
    assert_eq!(Constant::new(shape, constant.dtype(), encoding).as_ref(), Ok(&constant), "{}", what());
    true
}

#[test]
fn random_tensors_of_every_type() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for &dtype in DType::ALL {
        for shape in SHAPES {
            let mut tensor = random_tensor(&mut rng, dtype, shape, (-3.0, 3.0));
            let zeros =
                Data::from_f64(dtype, tensor.data().to_f64().into_iter().map(|x| if x > 0.5 { x } else { 0.0 }));
            for sparse in [false, true] {
                if sparse {
                    tensor = Tensor::new(tensor.shape(), zeros.clone());
                }
                for form in universal() {
                    assert!(exact(&tensor, &form), "{form} refuses {}", tensor.ty());
                }
            }
        }
    }
}

#[test]
fn elements_that_look_like_zero_or_like_each_other() {
    let odd = [0.0, -0.0, f32::NAN, f32::from_bits(0xffc0_0000), f32::from_bits(0x7f80_0001), f32::MIN_POSITIVE];
    let odd =
        odd.into_iter().chain([f32::from_bits(1), -f32::from_bits(1), f32::INFINITY, f32::NEG_INFINITY, f32::MAX]);
    let odd: Vec<f32> = odd.collect();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for len in [1usize, 2, 11, 40, 300] {
        let picked: Vec<f32> = (0..len).map(|_| odd[rng.random_range(0..odd.len())]).collect();
        for form in universal() {
            assert!(exact(&Tensor::f32([len], picked.clone()), &form), "{form} refuses {picked:?}");
        }
    }
    for x in odd {
        for form in universal() {
            assert!(exact(&Tensor::f32([3, 3], vec![x; 9]), &form), "{form} refuses nine times {x:?}");
        }
    }
}

#[test]
fn gaps_longer_than_a_distance_can_say() {
    for gap in [1usize, 14, 15, 16, 17, 30, 31, 32, 255, 256, 257, 1000] {
        let mut elements = vec![0.0; 2 * gap + 1];
        elements[gap] = 1.5;
        for bits in 1..=8 {
            let form = Form::Sparse(PatternForm::Relative(bits), Box::new(Form::Dense));
            assert!(exact(&Tensor::f32([2 * gap + 1], elements.clone()), &form), "{form} refuses a gap of {gap}");
        }
    }
}

#[test]
fn structured_patterns_take_what_has_their_structure_and_nothing_else() {
    let nofm = Form::Sparse(PatternForm::NofM(2, 4), Box::new(Form::Dense));
    assert!(exact(&Tensor::f32([2, 4], [0.0, 1.0, 0.0, 2.0, 3.0, 4.0, 0.0, 0.0]), &nofm));
    assert!(exact(&Tensor::f32([1, 4], [0.0; 4]), &nofm), "fewer than two of four are no harm");
    assert!(!exact(&Tensor::f32([1, 4], [1.0, 1.0, 1.0, 0.0]), &nofm), "three of four");
    assert!(!exact(&Tensor::f32([1, 6], [0.0; 6]), &nofm), "six are not groups of four");
    let block = Form::Sparse(PatternForm::Block(1, 4), Box::new(Form::Dense));
    assert!(exact(&Tensor::f32([2, 4], [0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]), &block));
}

#[test]
fn grids_take_what_is_on_them_and_nothing_else() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for bits in 1..=8u8 {
        for axis in [None, Some(0), Some(1)] {
            let extent = axis.map_or(1, |axis: usize| [4, 6][axis]);
            let scales: Vec<f32> = (0..extent).map(|_| rng.random_range(0.01..1.0)).collect();
            let zeros: Vec<f32> = (0..extent).map(|_| rng.random_range(0..1u32 << bits) as f32).collect();
            let codes: Vec<u32> = (0..24).map(|_| rng.random_range(0..1u32 << bits)).collect();
            let channel = |i: usize| axis.map_or(0, |axis| [i / 6, i % 6][axis]);
            let element = |(i, &code): (usize, &u32)| (code as f32 - zeros[channel(i)]) * scales[channel(i)];
            let elements: Vec<f32> = codes.iter().enumerate().map(element).collect();
            let form = Form::Quantized(QuantParams { bits, axis, scales: scales.clone(), zeros: zeros.clone() });
            assert!(exact(&Tensor::f32([4, 6], elements.clone()), &form), "{form}");
            let mut off = elements.clone();
            off[7] += scales[channel(7)] / 3.0;
            assert!(!exact(&Tensor::f32([4, 6], off), &form), "{form} takes an element off its grid");
        }
    }
}
