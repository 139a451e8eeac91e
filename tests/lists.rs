//! `wbc ingest`: lists, annotations and paths together, and what they leave open.

use crate::common::{Workdir, image_bytes};
use wbc::rows::ManifestRow;

const CLASSES: [&str; 5] = ["neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"];

/// A data set with images at these paths, and other files.
fn data(images: &[&str], files: &[(&str, &str)]) -> Workdir {
    let w = Workdir::new("lists");
    for (n, path) in images.iter().enumerate() {
        w.write(format!("data/raw/d/{path}"), image_bytes(path, n as u32, 100, 80));
    }
    for (path, text) in files {
        w.write(format!("data/raw/d/{path}"), text);
    }
    w
}

/// Ingests the data set: the exit status, what is printed, and the rows.
fn ingest(w: &Workdir) -> (i32, String, Vec<ManifestRow>) {
    let run = w.wbc(&["ingest", "--no-check"]);
    assert!(run.status < 2, "{}", run.stderr);
    (run.status, run.stdout, w.manifest("d"))
}

/// The error of a data set that cannot be read.
fn refused(w: &Workdir) -> String {
    w.wbc(&["ingest", "--no-check"]).exits(2).stderr
}

/// A value of every row, by path.
fn values(rows: &[ManifestRow], value: impl Fn(&ManifestRow) -> Option<String>) -> String {
    rows.iter().map(|row| value(row).unwrap_or("-".into())).collect::<Vec<_>>().join(" ")
}

fn class(row: &ManifestRow) -> Option<String> {
    row.class.map(|class| class.name().into())
}

/// Rows of a list of `n` images, with other values in front of the class.
fn rows(n: usize, row: impl Fn(usize, &str) -> String) -> String {
    (0..n).map(|i| row(i, CLASSES[i % 5]) + "\n").collect()
}

/// Pascal VOC's annotation of one box.
fn voc(label: &str) -> String {
    format!(
        "<annotation><size><width>100</width><height>80</height></size><object><name>{label}</name><bndbox>\
         <xmin>40</xmin><ymin>30</ymin><xmax>60</xmax><ymax>50</ymax></bndbox></object></annotation>"
    )
}

#[test]
fn a_missing_file_is_not_replaced_by_one_of_the_same_name() {
    let list = "path,class\nP1/a.png,neutrophil\nP2/b.png,monocyte\nP1/b.png,monocyte\n";
    let w = data(&["P2/a.png", "P2/b.png", "P1/b.png"], &[("list.csv", list)]);
    let (status, text, found) = ingest(&w);
    assert_eq!((status, values(&found, class).as_str()), (1, "monocyte monocyte"), "{text}");
    assert!(text.contains("1 of 3 rows have no image here: P1/a.png"), "{text}");
    assert!(w.issues("d").contains(&("no_label".into(), "P2/a.png".into())), "{:?}", w.issues("d"));

    // The paths of another computer, whose folders are not here.
    let list = "path,class\n/home/x/P2/a.png,neutrophil\nC:\\data\\P1\\b.png,monocyte\n/home/x/P1/a.png,basophil\n";
    let w = data(&["P2/a.png", "P1/b.png"], &[("list.csv", list)]);
    let (_, text, found) = ingest(&w);
    assert_eq!(values(&found, class), "monocyte neutrophil", "{text}");
    let w = data(&["new/a.png"], &[("list.csv", "path,class\n/home/x/a.png,neutrophil\n")]);
    let (status, text, _) = ingest(&w);
    assert!(status == 1 && text.contains("1 image found by name or number alone"), "{text}");

    // One file cannot be two.
    let w = data(&["img/a.png"], &[("list.csv", "path,class\nP1/a.png,neutrophil\nP2/a.png,neutrophil\n")]);
    let (status, text, found) = ingest(&w);
    assert_eq!((status, values(&found, class).as_str()), (1, "-"), "{text}");
}

#[test]
fn annotations_of_another_folder_are_not_laid_on_an_image() {
    let coco = |file: &str| {
        format!(
            r#"{{"images": [{{"id": 1, "file_name": "{file}"}}], "categories": [{{"id": 1, "name": "monocyte"}}],
            "annotations": [{{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}}]}}"#
        )
    };
    let w = data(&["siteB/a.png"], &[("ann.json", &coco("siteA/a.png"))]);
    assert!(refused(&w).contains("expected an image at siteA/a.png, found only siteB/a.png"));
    let w = data(&["siteB/a.png"], &[("ann.json", &coco("a.png"))]);
    assert_eq!(values(&ingest(&w).2, class), "monocyte");
    // One image cannot be two.
    let two =
        coco("siteA/a.png").replace("\"images\": [", "\"images\": [{\"id\": 2, \"file_name\": \"siteC/a.png\"}, ");
    let w = data(&["images/a.png"], &[("ann.json", &two)]);
    assert!(refused(&w).contains("images/a.png is the only image for both siteC/a.png and siteA/a.png"));
    let files = [("classes.txt", "monocyte\n"), ("labels/train/a.txt", "0 0.5 0.5 0.2 0.2\n")];
    assert!(refused(&data(&["images/val/a.png"], &files)).contains("found only images/val/a.png"));
    let (_, text, found) = ingest(&data(&["images/a.png"], &files));
    assert_eq!(values(&found, |row| row.given_role.clone()), "train", "{text}");
}

#[test]
fn paths_say_what_a_list_does_not() {
    let images = ["patient_1/train/a.png", "patient_2/test/slide_3/b.png"];
    let list = format!("path,class\n{},monocyte\n{},basophil\n", images[0], images[1]);
    let w = data(&images, &[("list.csv", &list)]);
    let (status, text, found) = ingest(&w);
    let of = |row: &ManifestRow| {
        let values = [&row.subject_id, &row.slide_id, &row.given_role];
        Some(values.map(|value| value.clone().unwrap_or("-".into())).join(","))
    };
    let expected = "patient_1,-,train patient_2,slide_3,test";
    assert_eq!((status, values(&found, of).as_str()), (0, expected), "{text}");
    // The list counts, and what contradicts it is reported. Other names for the same patients do not.
    let list = format!("path,class,patient,split\n{},monocyte,1,test\n{},basophil,2,test\n", images[0], images[1]);
    let w = data(&images, &[("list.csv", &list)]);
    let (status, text, found) = ingest(&w);
    assert_eq!((status, values(&found, of).as_str()), (1, "1,-,test 2,slide_3,test"), "{text}");
    assert!(text.contains("1 image of another given role than their folders say"), "{text}");
    assert!(!text.contains("different subjects"), "{text}");
    let w = data(&images, &[("list.csv", &list.replace(",2,", ",1,"))]);
    assert!(ingest(&w).1.contains("name different subjects; the list is followed: 1 in patient_1, 1 in patient_2"));
    // Folders that may be patients.
    let w = data(&["P1/a.png", "P2/b.png"], &[("list.csv", "path,class\nP1/a.png,monocyte\nP2/b.png,basophil\n")]);
    let (status, text, _) = ingest(&w);
    assert!(status == 1 && text.contains("folders that are not used: P1, P2"), "{text}");
}

#[test]
fn lists_complement_each_other() {
    let images = ["img/0.png", "img/1.png", "img/2.png"];
    let labels = format!("filename,label\n{}", rows(3, |i, class| format!("{i}.png,{class}")));
    let subjects = |row: &ManifestRow| row.subject_id.clone();
    let patients = format!("filename,patient\n{}", rows(3, |i, _| format!("{i}.png,P{i}")));
    let with_labels = format!("filename,label,patient\n{}", rows(3, |i, class| format!("{i}.png,{class},P{i}")));
    for second in [&patients, &with_labels] {
        let w = data(&images, &[("labels.csv", &labels), ("second.csv", second)]);
        let (status, text, found) = ingest(&w);
        assert_eq!((status, values(&found, subjects).as_str()), (0, "P0 P1 P2"), "{text}");
        assert_eq!(values(&found, class), "neutrophil eosinophil basophil", "{text}");
    }
    let roles = [("all.csv", labels.as_str()), ("train.csv", "filename\n0.png\n1.png\n"), ("test.txt", "img/2.png\n")];
    let (status, text, found) = ingest(&data(&images, &roles));
    assert_eq!((status, values(&found, |row| row.given_role.clone()).as_str()), (0, "train train test"), "{text}");
    let late = "filename,label,patient\n0.png,monocyte,\n1.png,basophil,P1\n0.png,Monocytes,P9\n1.png,baso,P2\n";
    let (status, text, found) = ingest(&data(&images, &[("list.csv", late)]));
    assert_eq!((status, values(&found, subjects).as_str()), (1, "P9 P1"), "{text}");
    assert_eq!(values(&found, class), "monocyte basophil", "spellings of one class: {text}");
}

#[test]
fn a_list_beside_boxes_names_patients_and_roles() {
    let images = ["JPEGImages/a.png", "JPEGImages/b.png"];
    let [a, b] = ["WBC", "monocyte"].map(voc);
    let annotations = [("Annotations/a.xml", a.as_str()), ("Annotations/b.xml", b.as_str())];
    let of = |row: &ManifestRow| {
        let values = [class(row), row.subject_id.clone(), row.given_role.clone()];
        Some(values.map(|value| value.unwrap_or("-".into())).join(","))
    };
    let list = ("labels.csv", "file,label,patient,split\na.png,neutrophil,P1,train\nb.png,,P2,test\n");
    let (status, text, found) = ingest(&data(&images, &[&annotations[..], &[list]].concat()));
    assert_eq!((status, values(&found, of).as_str()), (0, "neutrophil,P1,train monocyte,P2,test"), "{text}");
    let lists = [
        ("patients.csv", "file,patient\na.png,P1\nb.png,P2\n"),
        ("ImageSets/Main/train.txt", "a\n"),
        ("ImageSets/Main/val.txt", "b  -1\n"),
        ("ImageSets/Main/trainval.txt", "a\nb\n"),
    ];
    let (_, text, found) = ingest(&data(&images, &[&annotations[..], &lists].concat()));
    assert_eq!(values(&found, of), "-,P1,train monocyte,P2,validation", "{text}");
    let table = "image,label,x_min,y_min,x_max,y_max,patient,split\na.png,monocyte,10,10,30,30,P1,train\n\
                 b.png,basophil,10,10,30,30,P2,test\nb.png,monocyte,50,10,70,30,P2,test\n";
    let (status, text, found) = ingest(&data(&images, &[("boxes.csv", table)]));
    let expected = "monocyte,P1,train basophil,P2,test monocyte,P2,test";
    assert_eq!((status, values(&found, of).as_str()), (0, expected), "{text}");
    // Folders that may be patients.
    let images = ["JPEGImages/P1/a.png", "JPEGImages/P2/b.png"];
    let files = [("Annotations/P1/a.xml", b.as_str()), ("Annotations/P2/b.xml", b.as_str())];
    assert!(ingest(&data(&images, &files)).1.contains("folders that are not used: P1, P2"));
}

#[test]
fn crowds_and_boxes_that_are_null_in_coco() {
    let coco = r#"{"images": [{"id": 1, "file_name": "a.png", "width": null, "height": null}],
        "categories": [{"id": 1, "name": "monocyte"}], "annotations": [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 80], "iscrowd": 1},
        {"image_id": 1, "category_id": 1, "bbox": null, "segmentation": [[50, 10, 70, 10, 60, 40]], "iscrowd": 0},
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}]}"#;
    let w = data(&["images/a.png"], &[("annotations/instances_train2017.json", coco)]);
    let (status, text, found) = ingest(&w);
    assert_eq!((status, found.len()), (1, 2), "{text}");
    assert!(text.contains("1 annotation of a crowd (iscrowd)"), "{text}");
    assert!(found.iter().all(|row| row.given_role.as_deref() == Some("train")), "{text}");
    let boxes: Vec<_> = found.iter().map(|row| row.cell_box().map(<[u32; 4]>::from).unwrap()).collect();
    assert_eq!(boxes, [[50, 10, 20, 30], [10, 10, 20, 20]]);
}

#[test]
fn names_of_yolo_classes_are_those_of_their_folder_and_line() {
    let box_of = |class: u32| format!("{class} 0.5 0.5 0.2 0.2\n");
    let images = ["a/images/1.png", "b/images/2.png"];
    let [zero, one] = [0, 1].map(box_of);
    let labels = [("a/labels/1.txt", zero.as_str()), ("b/labels/2.txt", one.as_str())];
    let names = [("a/classes.txt", "monocyte\nbasophil\n"), ("b/classes.txt", "\nneutrophil\n")];
    let (_, text, found) = ingest(&data(&images, &[&labels[..], &names].concat()));
    assert_eq!(values(&found, class), "monocyte neutrophil", "{text}");
    let (status, text, found) = ingest(&data(&images, &[&labels[..], &names[..1]].concat()));
    assert_eq!((status, values(&found, class).as_str()), (1, "monocyte"), "{text}");
    assert!(text.contains("b/labels/2.txt: left out: its classes have no names"), "{text}");
}

#[test]
fn other_numbers_than_those_of_jtsc_are_asked_for() {
    let list = format!("image ID,class\n{}", rows(5, |i, _| format!("{i},{i}")));
    let w = data(&["images/0.png", "images/1.png", "images/2.png", "images/3.png", "images/4.png"], &[]);
    let mask = image::GrayImage::from_fn(100, 80, |x, _| image::Luma([if (40..60).contains(&x) { 255 } else { 0 }]));
    std::fs::create_dir_all(w.path("data/raw/d/masks")).unwrap();
    for n in 0..5 {
        mask.save(w.path(format!("data/raw/d/masks/{n}.png"))).unwrap();
    }
    for name in ["labels.csv", "my labels.csv"] {
        let path = w.write(format!("data/raw/d/{name}"), &list);
        assert!(refused(&w).contains("the numbers 0, 1, 2, 3, 4"), "{name}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn columns_that_are_unclear_are_asked_for() {
    let images = ["a.png", "b.png", "c.png"];
    let refusal = |list: &str| refused(&data(&images, &[("list.csv", list)]));
    let text = refusal("file,label,class\na.png,monocyte,basophil\nb.png,basophil,monocyte\n");
    assert!(
        text.contains("class and label, which differ in 2 of 2 rows") && text.contains("[ingest.columns]"),
        "{text}"
    );
    let text = refusal("image,file,label\na.png,b.png,monocyte\nb.png,a.png,basophil\n");
    assert!(text.contains("file and image, which name different images in 2 of 2 rows"), "{text}");
    let w = data(&images, &[("list.csv", "image,file,label\na.png,b.png,monocyte\nb.png,a.png,basophil\n")]);
    w.write("p.toml", "name = \"p\"\n[ingest.columns]\npath = \"image\"\n");
    w.wbc(&["ingest", "--no-check", "--pipeline", "p.toml"]).exits(1);
    assert_eq!(values(&w.manifest("d"), class), "monocyte basophil");

    let read = |list: &str| ingest(&data(&images, &[("list.csv", list)]));
    let (_, text, found) = read("file,class,Patient-Nr.\na.png,monocyte,1\nb.png,basophil,1\nc.png,basophil,2\n");
    assert_eq!(values(&found, |row| row.subject_id.clone()), "1 1 2", "{text}");
    for (column, values, key) in [
        ("sample", ["1", "1", "2"], "subject"),
        ("patient age", ["1", "1", "2"], "subject"),
        ("is_test", ["0", "1", "0"], "role"),
        ("set", ["train", "test", "train"], "role"),
    ] {
        let [a, b, c] = values;
        let (status, text, _) =
            read(&format!("file,class,{column}\na.png,monocyte,{a}\nb.png,basophil,{b}\nc.png,basophil,{c}\n"));
        assert!(status == 1 && text.contains(&format!("[ingest.columns] {key} = {column:?}")), "{text}");
    }
    let (status, text, _) = read("file,class,bbox\na.png,monocyte,\"[40, 30, 20, 20]\"\nb.png,basophil,\n");
    assert!(status == 1 && text.contains("boxes that are not read, as bbox may hold"), "{text}");
    let (_, text, found) = read("file,class,x,y,w,h\na.png,monocyte,5,30,20,20\nb.png,basophil,60,50,20,20\n");
    let boxes: Vec<_> = found.iter().filter_map(|row| row.cell_box().map(<[u32; 4]>::from)).collect();
    assert_eq!(boxes, [[5, 30, 20, 20], [60, 50, 20, 20]], "{text}");
}

#[test]
fn a_stray_annotation_does_not_hide_class_folders() {
    let images: Vec<String> = (0..10).map(|i| format!("{}/{i}.png", CLASSES[i % 5])).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let xml = voc("WBC");
    let strays = [
        ("neutrophil/0.xml", xml.as_str(), "voc"),
        ("neutrophil/0.txt", "0 0.5 0.5 0.2 0.2\n", "yolo"),
        ("x.json", r#"{"images": [{"id": 1, "file_name": "neutrophil/0.png"}], "annotations": []}"#, "coco"),
    ];
    for (path, text, layout) in strays {
        let (status, text, found) = ingest(&data(&images, &[(path, text)]));
        assert_eq!((status, found.len()), (1, 10), "{text}");
        assert!(text.contains(&format!("{path}. To read them alone: --layout {layout}")), "{text}");
    }
    // With most images annotated, the folders give their white cells the class.
    let paths: Vec<String> = images.iter().take(6).map(|path| path.replace(".png", ".xml")).collect();
    let files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), xml.as_str())).collect();
    let (status, text, found) = ingest(&data(&images, &files));
    assert!(status == 1 && found.iter().all(|row| row.path.starts_with(row.class.unwrap().name())), "{text}");
    assert_eq!(found.len(), 6);
    assert!(text.contains("left out: 4 images with the label of a list or folder and without annotations"), "{text}");
}

#[test]
fn lists_in_folders_and_with_the_folder_in_a_column() {
    let list = "filename,label,patient\na.png,monocyte,P1\nb.png,basophil,P2\n";
    let (status, text, found) = ingest(&data(&["img/a.png", "img/b.png"], &[("metadata/labels.csv", list)]));
    assert_eq!((status, values(&found, class).as_str()), (0, "monocyte basophil"), "{text}");
    // They count before class folders.
    let images = ["basophil/b.png", "neutrophil/a.png"];
    let (status, text, found) = ingest(&data(&images, &[("meta/labels.csv", list)]));
    assert_eq!((status, values(&found, class).as_str()), (1, "basophil monocyte"), "{text}");
    assert!(text.contains("neutrophil/a.png is monocyte"), "{text}");
    for header in ["folder,filename", "path,file"] {
        let list = format!("{header},label,patient\nx,a.png,monocyte,1\ny,a.png,basophil,2\n");
        let (status, text, found) = ingest(&data(&["x/a.png", "y/a.png"], &[("list.csv", &list)]));
        assert_eq!((status, values(&found, class).as_str()), (0, "monocyte basophil"), "{header}: {text}");
    }
    let list = "\"path\", \"class\", \"patient\"\n\"a.png\", \"neutro\u{ad}phil\u{200b}\", \"P1\"\n";
    let (_, text, found) = ingest(&data(&["a.png"], &[("list.csv", list)]));
    let of = |row: &ManifestRow| Some(format!("{} {}", class(row)?, row.subject_id.clone()?));
    assert_eq!(values(&found, of), "neutrophil P1", "{text}");
}

#[test]
fn a_mask_that_is_all_black_is_not_taken_for_the_image() {
    let w = data(&["1.bmp", "2.bmp"], &[("list.csv", "image,class\n1,monocyte\n2,basophil\n")]);
    for (name, cell) in [("1.png", 255), ("2.png", 0)] {
        let mask = image::GrayImage::from_fn(100, 80, |x, _| image::Luma([if x < 20 { cell } else { 0 }]));
        mask.save(w.path(format!("data/raw/d/{name}"))).unwrap();
    }
    let (status, text, found) = ingest(&w);
    assert_eq!((status, values(&found, |row| Some(row.path.clone())).as_str()), (1, "1.bmp 2.bmp"), "{text}");
}

#[test]
fn numbers_of_yolo_that_count_from_one_are_not_read_as_the_class_before() {
    let names = ("data.yaml", "names: [neutrophil, monocyte]\nnc: 2\n");
    let images = ["a.png", "b.png"];
    let w = data(&images, &[names, ("a.txt", "1 0.5 0.5 0.2 0.2\n"), ("b.txt", "2 0.5 0.5 0.2 0.2\n")]);
    let message = refused(&w);
    assert!(message.contains("data.yaml") && message.contains("1 to 2, as of names that count from 1"), "{message}");
    // So may be the lines of a list of names.
    w.write("data/raw/d/data.yaml", "");
    w.write("data/raw/d/classes.txt", "neutrophil\nmonocyte\n");
    assert!(refused(&w).contains("begin the file with an empty line"));
    w.write("data/raw/d/classes.txt", "\nneutrophil\nmonocyte\n");
    assert_eq!(values(&ingest(&w).2, class), "neutrophil monocyte");
    std::fs::remove_file(w.path("data/raw/d/classes.txt")).unwrap();
    // As the names are numbered, all is well.
    w.write("data/raw/d/data.yaml", "names: {1: neutrophil, 2: monocyte}\n");
    let (status, text, found) = ingest(&w);
    assert_eq!((status, values(&found, class).as_str()), (0, "neutrophil monocyte"), "{text}");
    // A number without a name is no other class.
    let w = data(&images, &[names, ("a.txt", "0 0.5 0.5 0.2 0.2\n"), ("b.txt", "7 0.5 0.5 0.2 0.2\n")]);
    let (status, text, found) = ingest(&w);
    assert_eq!((status, values(&found, class).as_str()), (1, "neutrophil"), "{text}");
    assert!(text.contains("b.txt: line 1: class number 7 has no name"), "{text}");
}

#[test]
fn boxes_of_another_size_or_beyond_the_image_are_said() {
    let header = "filename,width,height,class,xmin,ymin,xmax,ymax\n";
    let list = format!("{header}a.png,100,80,neutrophil,40,30,60,50\nb.png,50,40,monocyte,20,15,30,25\n");
    let (status, text, found) = ingest(&data(&["a.png", "b.png"], &[("boxes.csv", &list)]));
    assert_eq!((status, values(&found, class).as_str()), (1, "neutrophil"), "{text}");
    assert!(text.contains("b.png: left out: its boxes are for 50 x 40 px"), "{text}");
    // Columns of the same names with the size of the box.
    let list = format!("{header}a.png,20,20,neutrophil,40,30,60,50\nb.png,11,11,monocyte,20,15,30,25\n");
    let (status, text, found) = ingest(&data(&["a.png", "b.png"], &[("boxes.csv", &list)]));
    assert_eq!((status, values(&found, class).as_str()), (0, "neutrophil monocyte"), "{text}");
    let list = "path,class,xmin,ymin,xmax,ymax\na.png,neutrophil,40,30,60,50\nb.png,monocyte,70,30,140,50\n";
    let (status, text, found) = ingest(&data(&["a.png", "b.png"], &[("boxes.csv", list)]));
    assert_eq!((status, found.len()), (1, 2), "{text}");
    assert!(text.contains("by up to 40 px, and are cut at its edge: 1 of 2, in b.png"), "{text}");
}

#[test]
fn predictions_are_no_labels() {
    let folders = ["neutrophil/1.png", "monocyte/2.png"];
    let own = "path,class,confidence,agreement,p_neutrophil,p_monocyte\nneutrophil/1.png,monocyte,0.9,1,0.1,0.9\n";
    let w = data(&folders, &[("cells.csv", own)]);
    let (status, text, found) = ingest(&w);
    assert_eq!((status, values(&found, class).as_str()), (1, "monocyte neutrophil"), "{text}");
    assert!(text.contains("what wbc predict wrote"), "{text}");
    // The only list; and as a user corrects it.
    let w = data(&["1.png", "2.png"], &[("cells.csv", &own.replace("neutrophil/1", "1"))]);
    let message = refused(&w);
    assert!(message.contains("cells.csv") && message.contains("keep the columns path and class alone"), "{message}");
    w.write("data/raw/d/cells.csv", "path,class\n1.png,neutrophil\n2.png,monocyte\n");
    assert_eq!(values(&ingest(&w).2, class), "neutrophil monocyte");
    let other = "path,class,prob\nneutrophil/1.png,monocyte,0.9\nmonocyte/2.png,monocyte,0.8\n";
    let (_, text, _) = ingest(&data(&folders, &[("predictions.csv", other)]));
    assert!(text.contains("may be predictions, which are not labels: it has the column prob"), "{text}");
}

#[test]
fn what_is_pooled_or_guessed_is_named() {
    let images = ["Train/neutrophil/1.png", "TestA/neutrophil/2.png", "TestB/monocyte/3.png"];
    let (status, text, _) = ingest(&data(&images, &[]));
    assert!(status == 1 && text.contains("folders that are taken together as test: TestA, TestB"), "{text}");
    let list = "path,class,group\na.png,neutrophil,1\nb.png,monocyte,2\n";
    let (_, text, found) = ingest(&data(&["a.png", "b.png"], &[("list.csv", list)]));
    assert_eq!(values(&found, |row| row.subject_id.clone()), "1 2");
    assert!(text.contains("the column group is taken as the patients"), "{text}");
    // Patients in the names of files; the proposed template reads them.
    let images = ["neutrophil/P01_1.png", "neutrophil/P02_1.png", "monocyte/P01_2.png", "monocyte/P02_2.png"];
    let w = data(&images, &[]);
    let (_, text, _) = ingest(&w);
    assert!(text.contains("begin with what may be patients or slides, which are not used: P01, P02"), "{text}");
    w.write("people.toml", "name = \"people\"\n[ingest]\npath = \"{class}/{subject}_{rest}\"\n");
    assert!(w.wbc(&["ingest", "--no-check", "--pipeline", "people.toml"]).status < 2);
    assert_eq!(values(&w.manifest("d"), |row| row.subject_id.clone()), "P01 P02 P01 P02");
    // Two versions of each cell.
    let images = ["A/neutrophil/1.png", "A/monocyte/2.png", "B/neutrophil/1.png", "B/monocyte/2.png"];
    let (_, text, _) = ingest(&data(&images, &[]));
    assert!(text.contains("Most images have one of the same class and name in another folder"), "{text}");
    let images = ["Images/neutrophil/1.png", "Segmented Images/neutrophil/1.png"];
    let (_, text, found) = ingest(&data(&images, &[]));
    assert_eq!(found.len(), 1, "{text}");
    // A folder of removed images is no other version of them.
    let images = ["neutrophil/1.png", "neutrophil/removed_images/2.png", "monocyte/3.png"];
    let (_, text, _) = ingest(&data(&images, &[]));
    assert!(text.contains("folders whose names are not used, but whose images are: removed_images"), "{text}");
}

#[test]
fn labels_that_changed_since_are_said_where_they_are_not_read_again() {
    let w = Workdir::new("changed");
    w.tiny(2, 1, "", "");
    w.split("d", "50", 0);
    let split = || w.wbc(&["split", "--stratified", "--folds", "2"]);
    assert!(!split().stderr.contains("have changed"));
    let folder = w.path("data/raw/d");
    let image = std::fs::read_dir(folder.join("neutrophil")).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(&image, folder.join("monocyte/moved.jpg")).unwrap();
    let again = split();
    assert!(
        again.stderr.contains("the files or labels of d have changed since") && again.status < 2,
        "{}",
        again.stderr
    );
}
