//! Pages: one self-contained HTML file per run ([`run`]) and per data set ([`dataset`]). They open offline, in light
//! and dark mode, on a phone and on paper. `base.html` has the style of both, `parts.html` their common parts.

mod card;
pub mod dataset;
mod parts;
pub mod run;
