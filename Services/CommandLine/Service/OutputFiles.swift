package import Failure
package import Foundation
package import Tensor

/// Where a job's results go, and their writing.
package struct OutputFiles: Sendable {
    /// The video, or a safetensors file for latents and frames.
    package let main: String
    package let contactSheet: String
    package let container: String

    /// - Parameter output: a path whose extension chooses the container: mp4, webm, gif, mkv; safetensors for tensors.
    /// - Throws: `container_unknown`, `output_unwritable` before any work is done.
    package init(output: String?, contactSheet: String?, outputType: String) throws(Failure) {
        let isVideo = outputType == "video"
        let path = output ?? (isVideo ? "out.mp4" : "out.safetensors")
        let suffix = URL(fileURLWithPath: path).pathExtension.lowercased()
        let known = isVideo ? ["mp4", "webm", "gif", "mkv"] : ["safetensors"]
        guard known.contains(suffix) else {
            throw Failure(
                "container_unknown", "\(path) does not end in \(known.map { ".\($0)" }.joined(separator: ", "))",
                field: "output", remedy: "The extension chooses the format.")
        }
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
        guard FileManager.default.isWritableFile(atPath: folder) else {
            throw Failure(
                "output_unwritable", "cannot write into \(folder)", field: "output",
                remedy: "Make the folder, or choose another with --output.")
        }
        main = path
        container = isVideo ? suffix : "mp4"
        self.contactSheet = contactSheet ?? URL(fileURLWithPath: path).deletingPathExtension().path + ".png"
    }

    /// Writes bytes under a temporary name and renames, so that a reader never sees half a file.
    package static func write(_ data: Data, to path: String) throws(Failure) {
        do {
            try data.write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw Failure("output_unwritable", "cannot write \(path): \(error.localizedDescription)", field: "output")
        }
    }

    package static func write(_ tensor: Tensor, name: String, to path: String) throws(Failure) {
        try SafetensorsWriter.write(tensors: [(name, tensor)], metadata: ["format": "pt"], to: path)
    }
}

/// The tensors of a job for `--save-intermediates`: one safetensors file a tensor, named as the tensor, in diffusers'
/// layouts; floating values as float32, ids as int64.
package struct Intermediates: Sendable {
    private let folder: String

    package init(folder: String) throws(Failure) {
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        } catch {
            throw Failure(
                "output_unwritable", "cannot make \(folder): \(error.localizedDescription)", field: "save-intermediates"
            )
        }
        self.folder = folder
    }

    /// Saves what the job stored; returns the names of the files written.
    package func save(
        _ outputs: [String], fetch: (String) async throws(Failure) -> Tensor
    ) async throws(Failure) -> [String] {
        var written: [String] = []
        for (output, name) in [
            ("encode.input_ids", "input_ids"), ("encode.prompt_embeds", "prompt_embeds"),
            ("encode.negative_prompt_embeds", "negative_prompt_embeds"), ("denoise.latents", "latents"),
            ("decode.frames_float32", "frames"),
        ] where outputs.contains(output) {
            written.append(try write(try await fetch(output), name: name))
        }
        guard outputs.contains("denoise.latents_steps") else { return written }
        let steps = try await fetch("denoise.latents_steps")
        for index in 0..<steps.shape[0] {
            let latents = steps.rows(index..<(index + 1)).reshaped(Array(steps.shape.dropFirst()))
            let number = String(index)
            let padded = String(repeating: "0", count: max(0, 3 - number.count)) + number
            written.append(try write(latents, name: "latents_step_\(padded)"))
        }
        return written
    }

    private func write(_ tensor: Tensor, name: String) throws(Failure) -> String {
        let value = tensor.dtype.isFloatingPoint ? tensor.converted(to: .float32) : wide(tensor)
        let file = "\(name).safetensors"
        try OutputFiles.write(value, name: name, to: "\(folder)/\(file)")
        return file
    }

    /// int32 ids as the int64 that transformers uses.
    private func wide(_ ids: Tensor) -> Tensor {
        guard ids.dtype == .int32 else { return ids }
        var result = Tensor(uninitialized: ids.shape, dtype: .int64)
        let values = ids.int32s()
        result.withUnsafeMutableBytes { target in
            for (index, value) in values.enumerated() {
                target.storeBytes(of: Int64(value), toByteOffset: index * 8, as: Int64.self)
            }
        }
        return result
    }
}
