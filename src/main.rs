//! The `embedgate` program.
fn main() {}
