//! An upright rectangle of whole pixels, such as the box around a cell.

use serde::{Deserialize, Serialize};

/// A rectangle of an image, px: `x` and `y` count from the image's top left corner to the rectangle's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge, px.
    pub x: u32,
    /// Top edge, px.
    pub y: u32,
    /// Width, px.
    pub width: u32,
    /// Height, px.
    pub height: u32,
}

impl Rect {
    /// The rectangle that covers a whole image of this size, px.
    pub fn whole(width: u32, height: u32) -> Self {
        Self { x: 0, y: 0, width, height }
    }

    /// The first column right of the rectangle, px.
    pub fn right(&self) -> u32 {
        self.x + self.width
    }

    /// The first row below the rectangle, px.
    pub fn bottom(&self) -> u32 {
        self.y + self.height
    }

    /// The longer side, px.
    pub fn longer_side(&self) -> u32 {
        self.width.max(self.height)
    }

    /// Whether `other` lies inside this rectangle, edges included. Never overflows.
    pub fn contains(&self, other: Rect) -> bool {
        let inside = |start: u32, length: u32, outer_start: u32, outer_length: u32| {
            let end = u64::from(start) + u64::from(length);
            start >= outer_start && end <= u64::from(outer_start) + u64::from(outer_length)
        };
        inside(other.x, other.width, self.x, self.width) && inside(other.y, other.height, self.y, self.height)
    }

    /// The smallest rectangle that contains both.
    pub fn union(&self, other: Rect) -> Rect {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let (right, bottom) = (self.right().max(other.right()), self.bottom().max(other.bottom()));
        Rect { x, y, width: right - x, height: bottom - y }
    }
}

impl From<Rect> for [u32; 4] {
    /// Left edge, top edge, width and height, px.
    fn from(rect: Rect) -> Self {
        [rect.x, rect.y, rect.width, rect.height]
    }
}

#[cfg(test)]
mod tests {
    use super::Rect;

    #[test]
    fn contains_counts_the_edges_and_does_not_overflow() {
        let whole = Rect::whole(10, 20);
        assert!(whole.contains(whole));
        assert!(whole.contains(Rect { x: 9, y: 19, width: 1, height: 1 }));
        assert!(!whole.contains(Rect { x: 9, y: 0, width: 2, height: 1 }));
        assert!(!whole.contains(Rect { x: 1, y: 0, width: u32::MAX, height: 1 }));
    }

    #[test]
    fn the_union_covers_both() {
        let (a, b) = (Rect { x: 1, y: 2, width: 3, height: 4 }, Rect { x: 0, y: 5, width: 2, height: 6 });
        let union = a.union(b);
        assert_eq!(union, Rect { x: 0, y: 2, width: 4, height: 9 });
        assert!(union.contains(a) && union.contains(b));
    }
}
