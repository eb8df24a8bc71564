package import Failure
import Glibc

/// Writes safetensors files.
package enum SafetensorsWriter {
    /// The whole file as a uint8 tensor. Tensors lie in the given order; the header is padded so that data is aligned.
    /// Names must differ.
    package static func encode(_ tensors: [(String, Tensor)], metadata: [String: String] = [:]) -> Tensor {
        let header = headerBytes(tensors.map { TensorDescription($0.0, $0.1) }, metadata: metadata)
        let dataCount = tensors.reduce(0) { $0 + $1.1.byteCount }
        var file = Tensor(uninitialized: [header.count + dataCount], dtype: .uint8)
        file.withUnsafeMutableBytes { target in
            target.copyBytes(from: header)
            var offset = header.count
            for (_, tensor) in tensors {
                tensor.withUnsafeBytes { source in
                    UnsafeMutableRawBufferPointer(rebasing: target[offset..<(offset + source.count)])
                        .copyMemory(from: source)
                    offset += source.count
                }
            }
        }
        return file
    }

    /// The same for a dictionary, in the order of the names.
    package static func encode(_ tensors: [String: Tensor], metadata: [String: String] = [:]) -> Tensor {
        encode(tensors.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, metadata: metadata)
    }

    /// Writes the file beside `path` and renames it over `path`, so that no reader sees half of it.
    /// Failure: `unwritable_file`.
    package static func write(
        tensors: [(String, Tensor)], metadata: [String: String] = [:], to path: String
    ) throws(Failure) {
        try write(tensors.map { TensorDescription($0.0, $0.1) }, metadata: metadata, to: path) { tensors[$0].1 }
    }

    /// Writes tensors that are made one at a time: only the one being written has to be in memory.
    ///
    /// `tensor` gives each in order, of exactly the type and shape described; `observe` sees every byte of the file in
    /// order, for a digest. The file appears under `path` when it is whole. Failures: `unwritable_file` and those of
    /// `tensor`.
    package static func write(
        _ descriptions: [TensorDescription], metadata: [String: String] = [:], to path: String,
        observe: (UnsafeRawBufferPointer) -> Void = { _ in }, tensor: (Int) throws(Failure) -> Tensor
    ) throws(Failure) {
        let temporary = "\(path).\(getpid()).\(UInt32.random(in: 0...(.max))).part"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw failure(path, "create", temporary) }
        do throws(Failure) {
            defer { close(descriptor) }
            let header = Tensor(bytes: headerBytes(descriptions, metadata: metadata))
            header.withUnsafeBytes(observe)
            try writeAll(header, to: descriptor, path: path)
            for (index, description) in descriptions.enumerated() {
                let tensor = try tensor(index)
                precondition(
                    tensor.dtype == description.dtype && tensor.shape == description.shape,
                    "\(description.name) is not as described")
                tensor.withUnsafeBytes(observe)
                try writeAll(tensor, to: descriptor, path: path)
            }
            guard fsync(descriptor) == 0 else { throw failure(path, "sync", temporary) }
        } catch {
            unlink(temporary)
            throw error
        }
        guard rename(temporary, path) == 0 else {
            let error = failure(path, "rename", temporary)
            unlink(temporary)
            throw error
        }
    }

    /// The same for a dictionary, in the order of the names.
    package static func write(
        tensors: [String: Tensor], metadata: [String: String] = [:], to path: String
    ) throws(Failure) {
        try write(tensors: tensors.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, metadata: metadata, to: path)
    }

    // MARK: Parts

    private static func headerBytes(_ tensors: [TensorDescription], metadata: [String: String]) -> [UInt8] {
        precondition(Set(tensors.map(\.name)).count == tensors.count, "safetensors names must differ")
        var fields: [String] = []
        if !metadata.isEmpty {
            let pairs = metadata.sorted { $0.key < $1.key }.map { "\(quoted($0.key)):\(quoted($0.value))" }
            fields.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
        }
        var offset = 0
        for tensor in tensors {
            let end = offset + tensor.byteCount
            let shape = tensor.shape.map(String.init).joined(separator: ",")
            fields.append(
                "\(quoted(tensor.name)):{\"dtype\":\"\(tensor.dtype.safetensorsName)\",\"shape\":[\(shape)],"
                    + "\"data_offsets\":[\(offset),\(end)]}")
            offset = end
        }
        var json = Array("{\(fields.joined(separator: ","))}".utf8)
        while json.count % 8 != 0 { json.append(0x20) }
        return withUnsafeBytes(of: UInt64(json.count).littleEndian, Array.init) + json
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    private static func writeAll(_ tensor: Tensor, to descriptor: Int32, path: String) throws(Failure) {
        var offset = 0
        while offset < tensor.byteCount {
            let written = withExtendedLifetime(tensor) {
                Glibc.write(descriptor, tensor.readAddress + offset, tensor.byteCount - offset)
            }
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else { throw failure(path, "write", path) }
            offset += written
        }
    }

    private static func failure(_ path: String, _ action: String, _ object: String) -> Failure {
        Failure(
            "unwritable_file", "cannot \(action) \(object): \(String(cString: strerror(errno)))", field: path,
            remedy: "Check the folder's permissions and free space.")
    }
}
