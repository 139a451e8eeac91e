//! Pages: one self-contained HTML file per run ([`run`]), per data set ([`dataset`]) and about several of
//! them ([`laboratories`]),
//! and one of cells to label ([`to_label`]). They open offline, in light
//! and dark mode, on a phone and on paper. `base.html` has the style of both, `parts.html` their common parts.

mod card;
pub mod dataset;
pub mod laboratories;
mod parts;
pub mod run;
pub mod to_label;
