//! Prints what each column and each index of blocks takes, in bytes a line: `columns BLOCK...`.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for the terminal that may stop at any error")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};

/// Returns the size of a file, or of all files in a folder.
fn size_bytes(path: &Path) -> u64 {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().map(|entry| size_bytes(&entry.unwrap().path())).sum();
    }
    path.metadata().unwrap().len()
}

fn main() {
    let (mut rows, mut columns, mut files) = (0_i64, BTreeMap::new(), BTreeMap::new());
    for dir in std::env::args().skip(1) {
        let dir = Path::new(&dir);
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            *files.entry(name).or_default() += size_bytes(&entry.path());
        }
        let file = SerializedFileReader::new(File::open(dir.join("rows.parquet")).unwrap()).unwrap();
        rows += file.metadata().file_metadata().num_rows();
        for column in file.metadata().row_groups().iter().flat_map(|group| group.columns()) {
            *columns.entry(column.column_path().string()).or_default() += column.compressed_size().cast_unsigned();
        }
    }
    let print = |what: &str, sizes: BTreeMap<String, u64>| {
        let sum: u64 = sizes.values().sum();
        let mut sizes: Vec<_> = sizes.into_iter().chain([(what.to_owned(), sum)]).collect();
        sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        sizes.iter().for_each(|(name, size)| println!("{name:28} {:8.3}", *size as f64 / rows as f64));
        println!();
    };
    println!("{rows} rows, bytes a row:");
    print("all columns", columns);
    print("all files", files);
}
