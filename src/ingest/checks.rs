//! Names of ingest's issues, as in the column `check` of `ingest_issues.parquet`.

macro_rules! checks {
    ($(#[doc = $doc:literal] $name:ident = $text:literal;)*) => {
        $(#[doc = $doc] pub const $name: &str = $text;)*
        /// Every name and its meaning.
        pub const ALL: &[(&str, &str)] = &[$(($text, $doc)),*];
    };
}

checks! {
    /// The file is not a JPEG, PNG, BMP, TIFF, WebP or GIF image; the message says what it is.
    NOT_AN_IMAGE = "not_an_image";
    /// The file starts like an image, but its header is damaged, states an impossible size, or it is not one image.
    BAD_HEADER = "bad_header";
    /// A link leads nowhere, a file is a device, socket or pipe, or a name is not in UTF-8.
    UNREADABLE = "unreadable";
    /// A link leads back to a folder that contains it.
    LINK_LOOP = "link_loop";
    /// Files that operating systems and programs left in the folder (._*, .DS_Store, Thumbs.db, ...) were skipped.
    LEFTOVERS = "leftovers";
    /// A hidden folder was skipped.
    HIDDEN_FOLDER = "hidden_folder";
    /// Images with a label that is none of the classes are left out.
    UNKNOWN_CLASS = "unknown_class";
    /// No label is one of the default classes, so that the labels became the classes.
    NEW_CLASSES = "new_classes";
    /// The images of a class name another class in their finer label.
    SUBTYPE = "subtype";
    /// The list and the folders give images different classes, or the list lacks images of the folders.
    LIST_AND_FOLDER = "list_and_folder";
    /// Numbers as labels, read as the classes of the data set that the header and the masks are of.
    CODES = "codes";
    /// Masks that lie beside images, or without an image.
    MASKS = "masks";
    /// Images of a few grey levels and no colour, as masks are.
    MASK_LIKE = "mask_like";
    /// Annotated objects that are no white cells, or boxes that cannot be used.
    OBJECTS = "objects";
    /// Two folders above an image name different classes.
    AMBIGUOUS_CLASS = "ambiguous_class";
    /// An image without a label.
    NO_LABEL = "no_label";
    /// A label or mask without an image.
    NO_IMAGE = "no_image";
    /// Two images or two labels have the same number or path.
    LISTED_TWICE = "listed_twice";
    /// A row of a label file cannot be read.
    BAD_ROW = "bad_row";
    /// An image without an expert's mask.
    NO_MASK = "no_mask";
    /// A mask is empty, has another size than its image, or cannot be decoded.
    BAD_MASK = "bad_mask";
    /// Names of subjects or slides that are not names, or may be of the same person or slide.
    PEOPLE = "people";
    /// No white cell was found in an image or frame.
    NO_CELL = "no_cell";
    /// An image with one label has several white cells.
    SEVERAL_CELLS = "several_cells";
    /// The nucleus is not inside the part of the image that is cut out.
    OUTSIDE = "nucleus_outside";
    /// Which part of the images is cut out, and what it leaves out.
    CUT = "cut";
    /// What a data set has and ingest does not use: columns, folders, tables, the mixed frames of LISC.
    NOT_USED = "not_used";
}
