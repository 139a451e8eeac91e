//! The kinds of cells that can be generated.

/// A kind of cell: the five classes of Jung et al. (2019), then the three others of PBC (Acevedo et al. 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Neutrophil,
    Eosinophil,
    Basophil,
    Lymphocyte,
    Monocyte,
    ImmatureGranulocyte,
    Erythroblast,
    Platelet,
}

impl Kind {
    /// How many of the kinds Jung et al. have: the first ones.
    pub const PAPER: usize = 5;
    /// All kinds, in order.
    pub const ALL: [Kind; 8] = [
        Kind::Neutrophil,
        Kind::Eosinophil,
        Kind::Basophil,
        Kind::Lymphocyte,
        Kind::Monocyte,
        Kind::ImmatureGranulocyte,
        Kind::Erythroblast,
        Kind::Platelet,
    ];

    /// Name of the class, as in the class sets wbc5 and pbc8.
    pub fn name(self) -> &'static str {
        ["neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig", "erythroblast", "platelet"]
            [self as usize]
    }

    /// Code in file names.
    pub fn code(self) -> &'static str {
        ["NE", "EO", "BA", "LY", "MO", "IG", "ERB", "PLATELET"][self as usize]
    }
}
