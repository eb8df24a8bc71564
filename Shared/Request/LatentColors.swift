package import Checkpoint
package import Failure
package import Tensor

/// A linear map from latents, as the denoiser has them, to colours: what a clip is about to look like, at one pixel a
/// latent, without decoding it.
///
/// Fitted for one autoencoder (`LatentColorFit`) and kept in the model folder's `zoetrope.json`.
package struct LatentColors: Sendable, Hashable, Codable {
    /// Red, green and blue (0 … 1) that one unit of each channel adds: C rows of three.
    package var factors: [[Double]]
    /// Of latents that are zero.
    package var bias: [Double]

    package init(factors: [[Double]], bias: [Double]) {
        self.factors = factors
        self.bias = bias
    }

    /// What the folder's `zoetrope.json` says, or nil. Fails with `model_config_invalid`.
    package static func of(_ folder: ModelFolder) throws(Failure) -> LatentColors? {
        let defaults = try NativeDefaults(folder: folder.path)
        guard let factors = defaults.latentRGBFactors else { return nil }
        guard factors.count == folder.vae.latentChannels else {
            throw Failure(
                "model_config_invalid",
                "\(folder.path)/\(NativeDefaults.fileName): latent_rgb_factors has \(factors.count) rows for "
                    + "\(folder.vae.latentChannels) latent channels.", field: NativeDefaults.fileName,
                remedy: "Fit them with zoetrope models fit-preview.")
        }
        return LatentColors(factors: factors, bias: defaults.latentRGBBias ?? [0.5, 0.5, 0.5])
    }

    /// The colours of one frame of latents `[F, C, h, w]` float32, as uint8 RGB `[h, w, 3]`.
    package func picture(of latents: Tensor, frame: Int) -> Tensor {
        let (channels, height, width) = (latents.shape[1], latents.shape[2], latents.shape[3])
        precondition(latents.dtype == .float32 && channels == factors.count, "latents have a factor for each channel")
        let area = height * width
        let weights = factors.flatMap { $0.map { Float($0 * 255) } }
        let ground = bias.map { Float($0 * 255) }
        var picture = Tensor(uninitialized: [height, width, 3], dtype: .uint8)
        latents.withUnsafeBytes { bytes in
            let values = bytes.bindMemory(to: Float.self)[(frame * channels * area)...].prefix(channels * area)
            let base = values.startIndex
            picture.withUnsafeMutableBytes { target in
                for place in 0..<area {
                    var (red, green, blue) = (ground[0], ground[1], ground[2])
                    for channel in 0..<channels {
                        let value = values[base + channel * area + place]
                        red += value * weights[channel * 3]
                        green += value * weights[channel * 3 + 1]
                        blue += value * weights[channel * 3 + 2]
                    }
                    target[place * 3] = Self.byte(red)
                    target[place * 3 + 1] = Self.byte(green)
                    target[place * 3 + 2] = Self.byte(blue)
                }
            }
        }
        return picture
    }

    private static func byte(_ value: Float) -> UInt8 { value > 0 ? UInt8(min(value, 255)) : 0 }
}
