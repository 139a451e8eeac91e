//! Lists, annotations and path templates: files that people write, in a folder with images.

use crate::context::Context;
use crate::harness;
use crate::ingest::{self, ScannedFile, Settings, Tree, Vocabulary};
use crate::rows::ManifestRow;
use std::cell::RefCell;
use std::path::PathBuf;

thread_local! {
    /// The folder, scanned once.
    static TREE: RefCell<Option<Tree>> = const { RefCell::new(None) };
    /// The words of the usual classes.
    static VOCABULARY: Vocabulary = Settings::default().validate().expect("the defaults");
}

/// Images of the folder: 24 x 16 pixels each.
const IMAGES: [&str; 4] = ["basophil/a.png", "images/b.png", "images/P2_c.png", "monocyte/d.png"];

fn scan() -> Tree {
    let root = harness::folder().join("d");
    for (n, name) in IMAGES.iter().enumerate() {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let image = image::RgbImage::from_fn(24, 16, |x, y| {
            image::Rgb([(x * 10) as u8, (y * 15) as u8, (x * y + n as u32 * 40) as u8])
        });
        image.save(&path).expect("an image");
    }
    Tree::scan(&root, PathBuf::new(), &Context::silent(0)).expect("a tree")
}

/// In one of so many inputs, rows get their classes and boxes.
const SELDOM: u32 = 32;

/// Reads the folder with additional files, as ingest does up to the manifest, and checks its rows.
fn read(files: &[(&str, &[u8])], settings: &Settings, input: &[u8]) {
    let whole = harness::number(input).is_multiple_of(SELDOM);
    TREE.with_borrow_mut(|tree| {
        let tree = tree.get_or_insert_with(scan);
        for (name, contents) in files {
            std::fs::write(tree.root.join(name), contents).expect("a file");
            tree.files.push(ScannedFile {
                path: name.to_string(),
                bytes: contents.len() as u64,
                content_hash: "0".repeat(64),
                header: Err(("not-an-image", String::new())),
                few_greys: false,
                few_colours: false,
            });
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        let rows = VOCABULARY.with(|vocabulary| ingest::fuzzing::rows(tree, settings, vocabulary, whole));
        tree.files.retain(ScannedFile::is_image);
        rows.unwrap_or_default().iter().for_each(check_row);
    });
}

fn check_row(row: &ManifestRow) {
    assert!(IMAGES.contains(&row.path.as_str()), "{}", row.path);
    if let Some(cell) = row.cell_box() {
        let whole = crate::rect::Rect::whole(row.width_px, row.height_px);
        assert!(whole.contains(cell) && cell.width > 0 && cell.height > 0, "{cell:?}");
    }
}

/// A list of images, as text or as a Parquet table.
pub fn list(bytes: &[u8]) {
    let name = if bytes.starts_with(b"PAR1") { "list.parquet" } else { "list.csv" };
    read(&[(name, bytes)], &Settings::default(), bytes);
}

/// Annotations in the format of the first byte. For YOLO, a byte 255 separates the names of the classes from the boxes.
pub fn annotations(bytes: &[u8]) {
    let Some((format, text)) = bytes.split_first() else { return };
    let of = |layout: &str| Settings { layout: Some(layout.into()), ..Settings::default() };
    match format {
        b'v' => read(&[("images/b.xml", text)], &of("voc"), bytes),
        b'c' => read(&[("instances.json", text)], &of("coco"), bytes),
        b'b' => read(&[("boxes.csv", text)], &of("boxes"), bytes),
        b'y' => {
            let mut parts = text.splitn(2, |byte| *byte == 255);
            let (names, boxes) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            read(&[("data.yaml", names), ("images/b.txt", boxes)], &of("yolo"), bytes);
        }
        _ => {}
    }
}

/// Templates of paths and masks, one per line.
pub fn template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n').map(String::from);
    read(&[], &Settings { path: lines.next(), mask: lines.next(), ..Settings::default() }, bytes);
}

pub fn list_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "path,class,patient,split\nimages/b.png,basophil,P1,train\nimages/P2_c.png,monocyte,P2,test\n",
        "sep=;\nfile;label;slide\n\"b.png\";BA;1\nP2_c.png;\"MO, old\";2\n",
        "image\tneutrophil\tbasophil\nb\t0\t1\nP2_c\t1\t0\n",
        "folder|name|type|subtype\nimages|b.png|monocyte|x\n",
        "name,class1,class2,bbox\nimages/b.png,1,0,\"[1, 2, 3, 4]\"\n",
    ];
    let mut seeds: Vec<Vec<u8>> = texts.map(|text| text.as_bytes().to_vec()).into();
    seeds.push(texts[0].encode_utf16().flat_map(u16::to_le_bytes).collect());
    seeds.push(crate::tables::small());
    seeds
}

pub fn annotation_seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 8] = [
        b"v<annotation><filename>b.png</filename><size><width>24</width><height>16</height></size><object>\
          <name>basophil</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>\
          </annotation>",
        b"v<?xml version=\"1.0\"?><annotation><object><name><![CDATA[a &amp; b]]></name><bndbox><xmin>1.5</xmin>\
          <ymin>2</ymin><xmax>90</xmax><ymax>8</ymax></bndbox></object></annotation>",
        br#"c{"images":[{"id":1,"file_name":"b.png","width":24,"height":16}],
          "categories":[{"id":1,"name":"basophil"}],"annotations":[{"image_id":1,"category_id":1,"bbox":[1,2,5,6]},
          {"image_id":1,"category_id":1,"segmentation":[[1,1,9,1,9,9]]}]}"#,
        br#"c{"images":[{"id":1,"file_name":"images/b.png","width":24,"height":16}],"categories":[{"id":1,
          "name":"x"}],"annotations":[{"image_id":1,"category_id":1,"iscrowd":0,
          "segmentation":{"counts":[20,5,11,5,343],"size":[16,24]}},
          {"image_id":1,"category_id":1,"segmentation":{"counts":"d0560K","size":[16,24]}}]}"#,
        b"bpath,class,xmin,ymin,xmax,ymax\nb.png,basophil,1,2,9,8\nP2_c.png,monocyte,0.1,3,9,9\n",
        b"bfile,label,bbox\nb.png,basophil,\"[1, 2, 20, 15]\"\n",
        b"ynames: ['basophil', 'monocyte']\nnc: 2\n\xff0 0.5 0.5 0.2 0.4\n1 0.1 0.2 0.3 0.2 0.3 0.6\n",
        b"ynames:\n  0: basophil\n  1: monocyte\n\xff1 0.5 0.5 0.2 0.4 0.9\n",
    ];
    texts.map(<[u8]>::to_vec).into()
}

pub fn template_seeds() -> Vec<Vec<u8>> {
    ["{class}/{file}", "images/{subject}_{label}.png\nimages/{file}", "./{class}/{number}{stem}\n{class}/{stem}.png"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}
