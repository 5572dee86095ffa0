//! How results are printed: templates and tables.

pub(crate) mod progress;
mod rows;
mod template;

pub(crate) use rows::{Column, print_rows, print_values};
pub(crate) use template::Template;
