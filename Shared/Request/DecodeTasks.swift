import Checkpoint
import Failure
import Wire

// From latents to the job's result.
extension JobGraph {
    /// Tiles are shared out among decoders up to so many bytes: all of them wait for the muxer at once.
    private static let sharedTileBytes = 4 << 30

    /// What decodes the latents, and the muxer where the job ends in a file.
    ///
    /// A video in tiles has a task a tile, so that every decoder takes part and a lost tile alone is made again. Where
    /// frames themselves are wanted, one decoder makes and joins them.
    ///
    /// - Parameter prompt: the text that the text encoder read, where that is not the request's.
    static func pictures(
        _ request: GenerationRequest, _ traits: ModelTraits,
        latents: InputSource = .task(name: "denoise", output: "latents"), prompt: InputSource? = nil
    ) throws(Failure) -> [TaskSpecification] {
        if request.outputType == .latent { return [] }
        let ratio = traits.spatialCompressionRatio
        let grid =
            request.usesTiling
            ? traits.tiling.grid(height: request.height / ratio, width: request.width / ratio) : nil
        if let grid, request.outputType == .video, !request.keepFloatFrames {
            let bytes = grid.pixels * 3 * request.numFrames * (request.dtype == .float32 ? 4 : 2)
            if bytes <= sharedTileBytes {
                return try shared(grid, bytes: bytes, request, traits, latents: latents, prompt: prompt)
            }
        }
        let decode = try decode(request, traits, grid: grid, latents: latents)
        guard request.outputType == .video else { return [decode] }
        return [
            decode, try mux(request, traits, inputs: [input("frames", of: decode.name)], prompt: prompt, tiles: nil),
        ]
    }

    /// Frames are large and quickly made again: they stay in the decoder's memory unless they are the job's result.
    private static func decode(
        _ request: GenerationRequest, _ traits: ModelTraits, grid: TileGrid?, latents: InputSource
    ) throws(Failure) -> TaskSpecification {
        let parameters = DecodeParameters(
            dtype: request.dtype, numFrames: request.numFrames, keepFloatFrames: request.keepFloatFrames,
            workers: grid == nil ? request.decodeWorkers : nil,
            pixels: grid?.pixels ?? request.width * request.height, isTiled: grid == nil ? nil : true)
        return try decode(
            "decode", parameters, traits, latents: latents,
            isDurable: request.outputType == .frames || request.keepFloatFrames)
    }

    private static func shared(
        _ grid: TileGrid, bytes: Int, _ request: GenerationRequest, _ traits: ModelTraits, latents: InputSource,
        prompt: InputSource?
    ) throws(Failure) -> [TaskSpecification] {
        let tiles = grid.tiles, ratio = traits.spatialCompressionRatio
        var tasks: [TaskSpecification] = [], inputs: [TaskInput] = [], counts: [Int] = []
        for range in shares(of: tiles.count, among: Limits.inputsPerTask - (prompt == nil ? 0 : 1)) {
            let part = tiles[range]
            let parameters = DecodeParameters(
                dtype: request.dtype, numFrames: request.numFrames,
                pixels: part.reduce(0) { $0 + $1.area } * ratio * ratio, isTiled: true,
                tiles: TileShare(first: range.lowerBound, count: range.count, clipBytes: bytes))
            let name = "decode.\(tiles[range.lowerBound].row).\(tiles[range.lowerBound].column)"
            tasks.append(try decode(name, parameters, traits, latents: latents, isDurable: false))
            let source = InputSource.task(name: name, output: "tiles")
            inputs.append(TaskInput(name: TileSources.inputName(inputs.count), source: source))
            counts.append(range.count)
        }
        // Of a job's tasks the broker hands out the last that can begin: the small remainders shall come at the end.
        return tasks.reversed() + [
            try mux(request, traits, inputs: inputs, prompt: prompt, tiles: TileSources(grid: grid, counts: counts))
        ]
    }

    /// `count` tiles in at most `limit` runs of about the same length.
    static func shares(of count: Int, among limit: Int) -> [Range<Int>] {
        let runs = min(count, limit)
        return (0..<runs).map { (count * $0 / runs)..<(count * ($0 + 1) / runs) }
    }

    private static func decode(
        _ name: String, _ parameters: DecodeParameters, _ traits: ModelTraits, latents: InputSource, isDurable: Bool
    ) throws(Failure) -> TaskSpecification {
        TaskSpecification(
            name: name, stage: StageName.vaeDecoder.rawValue, model: traits.digest,
            parameters: try CanonicalJSON.encode(parameters), inputs: [TaskInput(name: "latents", source: latents)],
            durableOutputs: isDurable)
    }

    private static func mux(
        _ request: GenerationRequest, _ traits: ModelTraits, inputs: [TaskInput], prompt: InputSource?,
        tiles: TileSources?
    ) throws(Failure) -> TaskSpecification {
        let parameters = MuxParameters(request: request, modelDigest: traits.digest, tiles: tiles)
        return TaskSpecification(
            name: "mux", stage: StageName.videoMuxer.rawValue, model: "",
            parameters: try CanonicalJSON.encode(parameters),
            inputs: inputs + (prompt.map { [TaskInput(name: "prompt", source: $0)] } ?? []), durableOutputs: true)
    }
}
