//! Implicit shapes, given by the distance to their edge (px, negative inside), and noise functions. Smooth unions are
//! those of Inigo Quilez, "Distance functions"; grains are Worley's cellular noise.

use rand::RngExt;
use rand_pcg::Pcg64;

/// x (to the right) and y (down), px.
pub type Point = [f32; 2];

fn length(v: Point) -> f32 {
    (v[0] * v[0] + v[1] * v[1]).sqrt()
}

fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

/// Faster than `f32::floor`, which is a library call on baseline x86-64.
fn floor(v: f32) -> i32 {
    let towards_zero = v as i32;
    towards_zero - i32::from(v < towards_zero as f32)
}

/// 0 below `low`, 1 above `high`, and smooth in between.
pub fn smoothstep(low: f32, high: f32, v: f32) -> f32 {
    let t = ((v - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Approximate share of a pixel inside a shape, from the distance of its centre to the edge.
pub fn coverage(distance: f32) -> f32 {
    (0.5 - distance / 1.4).clamp(0.0, 1.0)
}

/// The smaller of two distances, blended over a width of `k` where they are close.
fn smooth_min(a: f32, b: f32, k: f32) -> f32 {
    let h = (k - (a - b).abs()).max(0.0) / k;
    a.min(b) - h * h * k * 0.25
}

/// The outline of a cell: a circle modulated by waves.
#[derive(Clone, Debug)]
pub struct Outline {
    /// Centre, px.
    pub centre: Point,
    /// Mean radius, px.
    pub radius: f32,
    /// Cosine and sine amplitudes of waves with 2 to 9 periods, as shares of the radius.
    waves: [Point; 8],
    reach: f32,
}

impl Outline {
    /// Random waves; `bend` is the amplitude of the long ones and `ruffle` of the short ones, as shares of the radius.
    pub fn new(centre: Point, radius: f32, bend: f32, ruffle: f32, rng: &mut Pcg64) -> Self {
        let waves = std::array::from_fn(|i| {
            let size = if i < 4 { bend / (1.0 + 0.8 * i as f32) } else { ruffle };
            [rng.random_range(-size..=size), rng.random_range(-size..=size)]
        });
        let bumps: f32 = waves.iter().map(|w: &Point| w[0].abs() + w[1].abs()).sum();
        Self { centre, radius, waves, reach: radius * (1.0 + bumps) }
    }

    /// An upper limit of the distance of the outline from the centre, px.
    pub fn reach(&self) -> f32 {
        self.reach
    }

    /// Distance to the outline along the ray from the centre, px.
    pub fn distance(&self, p: Point) -> f32 {
        let d = minus(p, self.centre);
        let r = length(d);
        if r < 0.5 {
            return -self.radius;
        }
        if r > self.reach + 3.0 {
            return r - self.reach;
        }
        let (c1, s1) = (d[0] / r, d[1] / r);
        // (c, s) is the cosine and sine of 2, 3, ... times the angle.
        let (mut c, mut s) = (c1, s1);
        let mut rim = 1.0;
        for [a, b] in self.waves {
            (c, s) = (c * c1 - s * s1, c * s1 + s * c1);
            rim += a * c + b * s;
        }
        r - self.radius * rim
    }
}

/// A line with round ends of different radii; a disc if both ends are at the same point.
#[derive(Clone, Copy, Debug)]
pub struct Capsule {
    /// First end, px.
    pub from: Point,
    /// Second end, px.
    pub to: Point,
    /// Radius at the first end, px.
    pub from_radius: f32,
    /// Radius at the second end, px.
    pub to_radius: f32,
}

impl Capsule {
    /// A disc.
    pub fn disc(centre: Point, radius: f32) -> Self {
        Self { from: centre, to: centre, from_radius: radius, to_radius: radius }
    }

    fn distance(&self, p: Point) -> f32 {
        let (v, axis) = (minus(p, self.from), minus(self.to, self.from));
        let t = ((v[0] * axis[0] + v[1] * axis[1]) / (axis[0] * axis[0] + axis[1] * axis[1]).max(1e-6)).clamp(0.0, 1.0);
        length([v[0] - axis[0] * t, v[1] - axis[1] * t]) - (self.from_radius + (self.to_radius - self.from_radius) * t)
    }
}

/// The shape of a nucleus: merged capsules minus dents.
#[derive(Clone, Debug, Default)]
pub struct Lobes {
    /// The merged capsules.
    pub parts: Vec<Capsule>,
    /// Capsules that are subtracted.
    pub dents: Vec<Capsule>,
    /// Width over which capsules blend, px.
    pub fillet: f32,
}

impl Lobes {
    /// Approximate distance to the edge, px.
    pub fn distance(&self, p: Point) -> f32 {
        let body = self.parts.iter().fold(f32::MAX, |d, part| smooth_min(d, part.distance(p), self.fillet));
        self.dents.iter().fold(body, |d, dent| -smooth_min(-d, dent.distance(p), self.fillet))
    }
}

/// Noise functions of a point, determined by a seed.
#[derive(Clone, Copy, Debug)]
pub struct Noise(pub u32);

impl Noise {
    fn hash(self, x: i32, y: i32) -> u32 {
        let mut h = (x as u32).wrapping_mul(0x8da6_b343) ^ (y as u32).wrapping_mul(0xd816_3841) ^ self.0;
        h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
        h ^ (h >> 15)
    }

    /// White noise, approximately normal with mean 0 and standard deviation 1 (a sum of four bytes).
    pub fn white(self, x: u32, y: u32) -> f32 {
        let sum: u32 = self.hash(x as i32, y as i32).to_le_bytes().iter().map(|b| u32::from(*b)).sum();
        (sum as f32 - 510.0) / 147.8
    }

    /// Smooth noise, -1 to 1, with features of about `size` px.
    pub fn smooth(self, p: Point, size: f32) -> f32 {
        let (x, y) = (p[0] / size, p[1] / size);
        let (x0, y0) = (floor(x), floor(y));
        let fade = |t: f32| t * t * (3.0 - 2.0 * t);
        let (tx, ty) = (fade(x - x0 as f32), fade(y - y0 as f32));
        let at = |dx: i32, dy: i32| (self.hash(x0 + dx, y0 + dy) >> 8) as f32 * (2.0 / 16_777_216.0) - 1.0;
        let top = at(0, 0) + (at(1, 0) - at(0, 0)) * tx;
        let bottom = at(0, 1) + (at(1, 1) - at(0, 1)) * tx;
        top + (bottom - top) * ty
    }

    /// Round grains, from 0 outside to 1 inside, of `radius` px at a mean distance of `spacing` px. A `share` (0 to 1)
    /// of the positions has a grain.
    pub fn grains(self, p: Point, spacing: f32, radius: f32, share: f32) -> f32 {
        let (x, y) = (p[0] / spacing, p[1] / spacing);
        let (x0, y0) = (floor(x), floor(y));
        let mut nearest = f32::MAX;
        for dy in -1..=1 {
            for dx in -1..=1 {
                let h = self.hash(x0 + dx, y0 + dy);
                if (h & 0x3ff) as f32 >= share * 1024.0 {
                    continue;
                }
                let jitter = |bits: u32| (bits & 0x3ff) as f32 / 1024.0;
                let (gx, gy) = ((x0 + dx) as f32 + jitter(h >> 10), (y0 + dy) as f32 + jitter(h >> 20));
                nearest = nearest.min((gx - x) * (gx - x) + (gy - y) * (gy - y));
            }
        }
        // Interpolates between squared distances, which avoids a square root.
        let rim = radius / spacing;
        smoothstep(1.3 * rim * rim, 0.5 * rim * rim, nearest)
    }
}
