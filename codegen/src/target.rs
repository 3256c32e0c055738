//! What code is generated for.

use std::fmt;
use std::str::FromStr;

use crate::tile::LANES;

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The instructions tiles are lowered to.
    pub vectors: Vectors,
    /// Threads the work is split over.
    pub threads: usize,
}

impl Target {
    /// This host, with so many threads.
    pub fn host(threads: usize) -> Target {
        Target { vectors: Vectors::of_host(), threads: threads.max(1) }
    }
}

/// The instructions tiles are lowered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vectors {
    /// 512-bit, x86-64 with AVX-512 F, BW, DQ, VL, VBMI, VNNI and VPOPCNTDQ: Ice Lake, Zen 4 and later.
    Avx512,
    /// 512-bit, x86-64 with AVX-512 F, BW, DQ and VL alone, which multiply neither bytes nor bits, nor look them up.
    Avx512Base,
    /// 256-bit, x86-64 with AVX2 and FMA.
    Avx2,
    /// 128-bit, through Cranelift: on every host it supports.
    Clif,
}

impl Vectors {
    /// All there are, the portable ones first.
    pub const ALL: [Vectors; 4] = [Vectors::Clif, Vectors::Avx2, Vectors::Avx512Base, Vectors::Avx512];

    /// Whether this host can run code for them; code can be made for any.
    pub fn run_here(self) -> bool {
        match (self, Vectors::of_host()) {
            (Vectors::Clif, _) => true,
            (Vectors::Avx2, host) => host != Vectors::Clif,
            (Vectors::Avx512Base, host) => host.is_wide(),
            (Vectors::Avx512, host) => host == Vectors::Avx512,
        }
    }

    /// The widest this host has.
    pub fn of_host() -> Vectors {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                let whole = is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("avx512vpopcntdq");
                return if whole { Vectors::Avx512 } else { Vectors::Avx512Base };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Vectors::Avx2;
            }
        }
        Vectors::Clif
    }

    /// Whether a vector is one of 512 bits.
    pub fn is_wide(self) -> bool {
        matches!(self, Vectors::Avx512 | Vectors::Avx512Base)
    }

    /// Whether there is code for products of bytes, and of bits.
    pub fn multiply_codes(self) -> bool {
        self != Vectors::Avx512Base
    }

    /// Whether bytes are looked up in registers.
    pub(crate) fn look_up_bytes(self) -> bool {
        self == Vectors::Avx512
    }

    /// Tile registers, of [`LANES`] lanes each, that a program can use.
    pub(crate) fn registers(self) -> usize {
        match self {
            Vectors::Avx512 | Vectors::Avx512Base => 32,
            // 16 of 8 lanes, two of which lowering needs for itself.
            Vectors::Avx2 => 14 * 8 / LANES,
            // 16 of 4 lanes are a good fit; Cranelift spills what goes beyond.
            Vectors::Clif => 8,
        }
    }

    /// Machine registers that make a tile register.
    pub(crate) fn parts(self) -> usize {
        match self {
            Vectors::Avx512 | Vectors::Avx512Base => 1,
            Vectors::Avx2 => 2,
            Vectors::Clif => 4,
        }
    }

    /// Registers a tile of accumulators should not exceed, whatever else the program needs.
    pub(crate) fn accumulators(self) -> usize {
        match self {
            Vectors::Avx512 | Vectors::Avx512Base => 28,
            Vectors::Avx2 => 5,
            Vectors::Clif => 3,
        }
    }
}

/// The name on the command line.
impl fmt::Display for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Vectors::Avx512 => "icelake",
            Vectors::Avx512Base => "x86-64-v4",
            Vectors::Avx2 => "x86-64-v3",
            Vectors::Clif => "clif",
        })
    }
}

/// A name that is none of those of [`Vectors`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVectors(String);

impl fmt::Display for UnknownVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of {NATIVE}", self.0)?;
        Vectors::ALL.iter().rev().try_for_each(|vectors| write!(f, ", {vectors}"))
    }
}

impl std::error::Error for UnknownVectors {}

/// The name of whatever the host has.
const NATIVE: &str = "native";

/// The names of [`Vectors`], and `native` for [`Vectors::of_host`].
impl FromStr for Vectors {
    type Err = UnknownVectors;

    fn from_str(name: &str) -> Result<Vectors, UnknownVectors> {
        if name == NATIVE {
            return Ok(Vectors::of_host());
        }
        let known = Vectors::ALL.into_iter().find(|vectors| vectors.to_string() == name);
        known.ok_or_else(|| UnknownVectors(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for vectors in Vectors::ALL {
            assert_eq!(vectors.to_string().parse(), Ok(vectors));
        }
        assert_eq!("native".parse(), Ok(Vectors::of_host()));
        assert!(Vectors::of_host().run_here() && Vectors::Clif.run_here());
        let error = "sse2".parse::<Vectors>().unwrap_err().to_string();
        assert_eq!(error, "\"sse2\" is none of native, icelake, x86-64-v4, x86-64-v3, clif");
    }
}
