//! JPEG: the pixels that wbc decodes are libjpeg's.
//!
//! No difference is allowed, as both compute with the same whole numbers, and what libjpeg refuses, wbc must refuse.
//! Two things are left open. wbc may refuse what libjpeg decodes, because it is stricter. And where coefficients give
//! values far beyond those of any image, as only in damaged files, libjpeg itself computes other pixels with vector
//! instructions than without.

use crate::decode::{self, Orientation};
use crate::harness::file;
use mozjpeg_sys::*;
use std::cell::Cell;
use std::os::raw::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Larger images take too long.
const MANY_PIXELS: u64 = 1 << 12;
/// What libjpeg limits to 0 to 255 without error: beyond, values wrap around.
const MOST: f32 = 500.0;

thread_local! {
    /// The numbers of libjpeg's last error and warning.
    static CODES: Cell<(c_int, c_int)> = const { Cell::new((0, 0)) };
}

extern "C-unwind" fn fail(info: &mut jpeg_common_struct) {
    // SAFETY: the struct that the decoder was given.
    CODES.set((unsafe { (*info.err).msg_code }, CODES.get().1));
    // As an unwinding that is no panic, it calls no hook.
    resume_unwind(Box::new(()));
}

extern "C-unwind" fn note(info: &mut jpeg_common_struct, level: c_int) {
    if level < 0 {
        // SAFETY: as above.
        CODES.set((CODES.get().0, unsafe { (*info.err).msg_code }));
    }
}

/// libjpeg's decoder of a file, after the header.
struct Decoder {
    info: Box<jpeg_decompress_struct>,
    _errors: Box<jpeg_error_mgr>,
}

impl Decoder {
    /// Calls `then` with a decoder; `None` where libjpeg refuses the file.
    fn with<T>(bytes: &[u8], then: impl FnOnce(&mut jpeg_decompress_struct) -> T) -> Option<T> {
        CODES.set((0, 0));
        // SAFETY: structs of C whose fields may all be zero, which libjpeg fills; both outlive its use of them. Its
        // errors unwind through `fail`, for which it is compiled.
        unsafe {
            let mut errors: Box<jpeg_error_mgr> = Box::new(std::mem::zeroed());
            let mut info: Box<jpeg_decompress_struct> = Box::new(std::mem::zeroed());
            info.common.err = jpeg_std_error(&mut errors);
            errors.error_exit = Some(fail);
            errors.emit_message = Some(note);
            jpeg_CreateDecompress(&mut *info, JPEG_LIB_VERSION, std::mem::size_of::<jpeg_decompress_struct>());
            let mut decoder = Decoder { info, _errors: errors };
            let run = || {
                jpeg_mem_src(&mut decoder.info, bytes.as_ptr(), bytes.len() as _);
                jpeg_read_header(&mut decoder.info, 1);
                then(&mut decoder.info)
            };
            catch_unwind(AssertUnwindSafe(run)).ok()
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: it was created.
        unsafe { jpeg_destroy_decompress(&mut self.info) };
    }
}

/// What libjpeg decodes: channels and pixels. What follows an image is not read.
fn decoded(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    Decoder::with(bytes, |info| {
        info.out_color_space = match info.jpeg_color_space {
            J_COLOR_SPACE::JCS_GRAYSCALE => J_COLOR_SPACE::JCS_GRAYSCALE,
            J_COLOR_SPACE::JCS_CMYK | J_COLOR_SPACE::JCS_YCCK => J_COLOR_SPACE::JCS_CMYK,
            _ => J_COLOR_SPACE::JCS_RGB,
        };
        // SAFETY: the rows that libjpeg writes are as long as it says.
        unsafe {
            jpeg_start_decompress(info);
            let channels = info.output_components as usize;
            let stride = info.output_width as usize * channels;
            let mut pixels = vec![0; stride * info.output_height as usize];
            while info.output_scanline < info.output_height {
                let mut row = pixels[info.output_scanline as usize * stride..].as_mut_ptr();
                jpeg_read_scanlines(info, &mut row, 1);
            }
            (channels, pixels)
        }
    })
}

/// Whether a block gives values far outside of 0 to 255.
fn is_wild(bytes: &[u8]) -> bool {
    let is_wild = |info: &mut jpeg_decompress_struct| {
        // SAFETY: libjpeg's arrays have the sizes that its structs say, and live as long as the decoder.
        unsafe {
            let arrays = jpeg_read_coefficients(info);
            let access = (*info.common.mem).access_virt_barray.expect("a method");
            for c in 0..info.num_components as usize {
                let component = &*info.comp_info.add(c);
                let table = (*component.quant_table).quantval;
                for y in 0..component.height_in_blocks {
                    let row = *access(&mut info.common, *arrays.add(c), y, 1, 0);
                    for x in 0..component.width_in_blocks as usize {
                        if most(&*row.add(x), &table) > MOST {
                            return true;
                        }
                    }
                }
            }
            false
        }
    };
    Decoder::with(bytes, is_wild).unwrap_or(true)
}

/// A bound for the values of a block, before 128 is added: what its coefficients are if all of their waves meet.
fn most(block: &JBLOCK, table: &[u16; 64]) -> f32 {
    let sum = |at: usize| f32::from(block[at]).abs() * f32::from(table[at]);
    (0..64)
        .map(|at| {
            let share = |k: usize| if k == 0 { std::f32::consts::FRAC_1_SQRT_2 } else { 1.0 };
            sum(at) * share(at / 8) * share(at % 8) / 4.0
        })
        .sum()
}

/// Compares the pixels of a JPEG that wbc decodes.
pub fn compare(bytes: &[u8]) {
    let Ok(header) = decode::header(bytes, file()) else { return };
    let (width, height) = (header.width_px, header.height_px);
    let is_upright = header.orientation == Orientation::default();
    if header.format.name() != "jpeg" || !is_upright || u64::from(width) * u64::from(height) > MANY_PIXELS {
        return;
    }
    let Ok(image) = decode::rgb(bytes, file()) else { return };
    let Some((channels, pixels)) = decoded(bytes) else { panic!("libjpeg refuses it: error {}", CODES.get().0) };
    let warning = CODES.get().1;
    let expected = match channels {
        1 => pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
        3 => pixels,
        _ => {
            // Inks are stored as they are or inverted: wbc knows which.
            let plain = mixed(&pixels, 255);
            if plain == image.pixels { plain } else { mixed(&pixels, 0) }
        }
    };
    assert_eq!(expected.len(), image.pixels.len());
    let differing = expected.iter().zip(&image.pixels).position(|(expected, found)| expected != found);
    if let Some(at) = differing.filter(|_| !is_wild(bytes)) {
        let (x, y) = (at / 3 % width as usize, at / 3 / width as usize);
        let (expected, found) = (expected[at], image.pixels[at]);
        panic!("{width} x {height}, pixel {x}, {y}: expected {expected}, found {found} (warning {warning})");
    }
}

/// How Pillow mixes four inks, of which 255 is most, or none where `flip` is 0.
fn mixed(inks: &[u8], flip: u8) -> Vec<u8> {
    let light = |ink: u8| u32::from(ink ^ flip);
    let part = |ink: u8, black: u8| {
        let product = light(ink) * light(black) + 128;
        ((product + (product >> 8)) >> 8) as u8
    };
    inks.as_chunks::<4>().0.iter().flat_map(|p| [part(p[0], p[3]), part(p[1], p[3]), part(p[2], p[3])]).collect()
}
