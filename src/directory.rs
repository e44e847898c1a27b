//! Where the directory is read from.

pub mod file;
