//! SVG and text to pixels by resvg, with a built-in font: the same bytes whatever fonts a machine has.

use crate::error::{Error, Result};
use image::RgbImage;
use resvg::{tiny_skia, usvg};
use std::sync::{Arc, LazyLock};

/// Pixels of the PNG per px of the SVG: sharp on a projector and in print.
const SCALE: f32 = 2.0;
/// Makes Ubuntu Light slightly bolder: thin strokes are hard to see on projectors.
const STYLE: &str = "text { stroke: #1b1f24; stroke-width: 0.3px; }";

static FONTS: LazyLock<Arc<usvg::fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().map(|face| face.families[0].0.clone()).expect("the font has a name");
    fonts.set_sans_serif_family(family);
    Arc::new(fonts)
});

/// Renders an SVG that fills its own background, at `scale` pixels per px.
///
/// # Errors
/// [`Error::Compute`] where it is not valid SVG or too large.
pub(crate) fn render(svg: &str, scale: f32) -> Result<RgbImage> {
    let failed = |message: String| Error::compute("figure as PNG", message);
    let options = usvg::Options { fontdb: FONTS.clone(), style_sheet: Some(STYLE.into()), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| failed(e.to_string()))?;
    let size = tree.size().to_int_size().scale_by(scale).ok_or_else(|| failed("it has no size".into()))?;
    let mut pixmap =
        tiny_skia::Pixmap::new(size.width(), size.height()).ok_or_else(|| failed("it is too large".into()))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    // The background is opaque, so alpha can be dropped.
    let pixels = pixmap.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    Ok(RgbImage::from_raw(size.width(), size.height(), pixels).expect("three bytes per pixel"))
}

/// Special characters of text in SVG.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A line of text of `size` px on white, `width` px wide; what does not fit is cut off.
///
/// # Errors
/// As [`render`].
pub(crate) fn line(text: &str, size: u32, width: u32) -> Result<RgbImage> {
    let (height, baseline, text) = (size + size / 2, size + size / 8, escaped(text));
    let svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"
        fill="#1b1f24"><rect width="100%" height="100%" fill="#fff"/><text x="0" y="{baseline}"
        font-size="{size}">{text}</text></svg>"##
    );
    render(&svg, 1.0)
}

/// Encodes an image as PNG.
///
/// # Errors
/// [`Error::Compute`] where it cannot be encoded.
pub(crate) fn encode(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    let failed = |e: image::ImageError| Error::compute("PNG", e);
    image.write_with_encoder(encoder).map_err(failed)?;
    Ok(bytes)
}

/// Renders an SVG at [`SCALE`] and encodes it as PNG.
///
/// # Errors
/// As [`render`].
pub(crate) fn from_svg(svg: &str) -> Result<Vec<u8>> {
    encode(&render(svg, SCALE)?)
}
