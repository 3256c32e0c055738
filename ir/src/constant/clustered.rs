//! The clustered encoding.
