package import Failure
package import Tensor

/// Reads `--init-latents`: a safetensors file with a tensor called `latents`, or with just one tensor.
package enum LatentsFile {
    /// - Parameter shape: what the request needs, `[1, F, C, h, w]`.
    /// - Throws: `init_latents_misshapen`, `init_latents_not_finite`, `init_latents_ambiguous`, or the file's own failure.
    package static func read(path: String, shape: [Int]) throws(Failure) -> Tensor {
        let file = try SafetensorsFile(path: path)
        guard let name = file.names.contains("latents") ? "latents" : file.names.count == 1 ? file.names.first : nil
        else {
            throw Failure(
                "init_latents_ambiguous", "\(path) holds \(file.names.count) tensors and none is called latents",
                field: "init_latents", remedy: "Save the one tensor under the name latents.")
        }
        let tensor = try file.tensor(name)
        guard tensor.shape == shape, tensor.dtype.isFloatingPoint else {
            throw Failure(
                "init_latents_misshapen",
                "\(path): \(name) is \(tensor.dtype) \(tensor.shape), the request needs \(shape)",
                field: "init_latents",
                remedy: "The layout is [batch, latent frames, channels, height / 8, width / 8].")
        }
        let latents = tensor.converted(to: .float32)
        if let position = latents.firstNonFinite() {
            throw Failure(
                "init_latents_not_finite", "\(path): element \(position) of \(name) is NaN or infinite",
                field: "init_latents")
        }
        return latents
    }
}
