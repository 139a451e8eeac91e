//! Shapes of tensors on dfdx's tape.

/// Shape of activations: images, rows, columns, channels.
pub type Nhwc = (usize, usize, usize, usize);
