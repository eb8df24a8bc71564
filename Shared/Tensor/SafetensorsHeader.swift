import Failure

/// One entry of a safetensors header: offsets count from the end of the header.
struct SafetensorsEntry {
    var name: String
    var dtype: DType
    var shape: [Int]
    var begin: Int
    var end: Int
}

/// The parsed and checked header of a safetensors file (huggingface.co/docs/safetensors, "Format").
struct SafetensorsHeader {
    private(set) var entries: [SafetensorsEntry] = []
    private(set) var metadata: [String: String] = [:]

    /// What the format allows for the header, as in the reference reader.
    static let largestHeader = 100_000_000
    static let largestRank = 8

    /// Parses the header text and checks every entry against a data part of `dataByteCount` bytes: known types, extents
    /// that fit the offsets, no name twice, no overlap and no byte that belongs to no tensor.
    init(json: UnsafeRawBufferPointer, dataByteCount: Int, file: String) throws(Failure) {
        var reader = HeaderReader(bytes: json, file: file)
        var names: Set<String> = []
        try reader.expect("{")
        if !reader.skips("}") {
            repeat {
                let name = try reader.string()
                guard names.insert(name).inserted else { throw reader.corrupt("occurs twice", key: name) }
                try reader.expect(":")
                if name == "__metadata__" {
                    metadata = try reader.strings(key: name)
                } else {
                    entries.append(try reader.entry(name: name))
                }
            } while reader.skips(",")
            try reader.expect("}")
        }
        try reader.expectEnd()
        try checkOffsets(dataByteCount: dataByteCount, file: file)
    }

    private func checkOffsets(dataByteCount: Int, file: String) throws(Failure) {
        var next = 0
        for entry in entries.sorted(by: { ($0.begin, $0.end) < ($1.begin, $1.end) }) {
            let place = "data_offsets [\(entry.begin), \(entry.end)]"
            guard entry.end <= dataByteCount else {
                let what = "\(place) end beyond the \(dataByteCount) bytes of data"
                throw Self.corrupt(what, file: file, key: entry.name)
            }
            guard entry.begin >= next else {
                throw Self.corrupt("\(place) overlap a tensor that ends at \(next)", file: file, key: entry.name)
            }
            guard entry.begin == next else {
                throw Self.corrupt("\(place) leave a hole after byte \(next)", file: file, key: entry.name)
            }
            next = entry.end
        }
        guard next == dataByteCount else {
            let what = "the tensors end at byte \(next) of \(dataByteCount) bytes of data"
            throw Self.corrupt(what, file: file, key: nil)
        }
    }

    static func corrupt(_ what: String, file: String, key: String?) -> Failure {
        Failure(
            "corrupt_safetensors", "\(file)\(key.map { ", key \"\($0)\"" } ?? ""): \(what)", field: key ?? file,
            remedy: "Fetch the file again and compare its digest with the source.")
    }
}
