package import ArgumentParser
import Foundation

/// The flags that describe a video, named as the field names them; the same names with underscores go over HTTP.
package struct GenerationOptions: ParsableArguments {
    @Argument(help: "What the video shows, in English.")
    package var prompt: String?

    @Option(help: "What the video should not show.")
    package var negativePrompt: String?

    @Option(help: "Width in pixels, a multiple of 16. [default: the model's]")
    package var width: Int?

    @Option(help: "Height in pixels, a multiple of 16. [default: the model's]")
    package var height: Int?

    @Option(help: "Frames: 8N+1, or 16N+1 for CogVideoX 1.5. [default: the model's]")
    package var numFrames: Int?

    @Option(help: "Frames per second of the file. [default: the model's]")
    package var fps: Int?

    @Option(help: "Denoising steps. [default: the model's]")
    package var numInferenceSteps: Int?

    @Option(help: "Strength of classifier-free guidance; 1 turns it off. [default: the model's]")
    package var guidanceScale: Double?

    @Flag(help: "Vary the guidance scale over the steps, as the released demos do.")
    package var useDynamicCfg = false

    @Option(help: "ddim or dpm. [default: the one the model names]")
    package var scheduler: String?

    @Option(help: "Seed of the noise; the same seed gives the same video. [default: random]")
    package var seed: UInt64?

    @Option(help: "float32, bfloat16 or int8: the arithmetic of the networks. [default: float32]")
    package var dtype: String?

    @Flag(help: "Let the server's prompt upsampler rewrite the prompt first.")
    package var upsamplePrompt = false

    @Flag(help: "Accept step counts that do not end at a clean image (see docs/models.md).")
    package var allowUnsafeSteps = false

    @Option(help: "none, teacache, first_block or pab: leave out parts of steps (docs/step-caches.md). [default: none]")
    package var stepCache: String?

    @Option(help: "Threshold of teacache (0.2) or first_block (0.05); more is faster and differs more.")
    package var stepCacheThreshold: Double?

    @Option(help: "Steps that share one attention with pab. [default: 2]")
    package var stepCacheRange: Int?

    @Option(help: "Stop after so many steps and show what they foretell; `zoetrope continue` does the rest.")
    package var stepsUntil: Int?

    @Option(help: "Decoders that may share the decode by rows; 1: one alone. [default: as many as a big video needs]")
    package var decodeWorkers: Int?

    @Flag(help: "Encode and decode in overlapping tiles, on every decoder: less memory, not exact (docs/models.md).")
    package var vaeTiling = false

    @Option(help: "Picture that becomes the first frame (image-to-video models).")
    package var image: String?

    @Option(help: "Clip to make another of (text-to-video models).")
    package var video: String?

    @Option(help: "Clip that every step follows (control models).")
    package var controlVideo: String?

    @Option(help: "Clip whose caption is the prompt; needs a chat service that sees pictures.")
    package var captionOf: String?

    @Option(help: "stretch, cover or contain: how a picture of another shape fits. [default: stretch]")
    package var fit: String?

    @Option(help: "Of --video: how much of the schedule runs, up to 1. [default: 0.8]")
    package var strength: Double?

    @Option(help: "Frames a second that are taken of a clip. [default: every frame as it is]")
    package var sourceFps: Int?

    @Option(help: "What the latents of --image are multiplied by. [default: the model's]")
    package var imageLatentScale: Double?

    @Option(help: "LoRA adapter, NAME or NAME:WEIGHT; repeatable. A file or folder, or a name in --adapters.")
    package var lora: [LoraOption] = []

    package init() {}

    /// The files that the request begins with, by the name of their field.
    package var media: [(field: String, path: String)] {
        [
            ("image", image), ("video", video), ("control_video", controlVideo), ("caption_of", captionOf),
        ].compactMap { field, path in
            path.map { (field, $0) }
        }
    }

    /// The request as the JSON object the gateway takes; absent flags are absent keys.
    package func fields() -> [String: any Sendable] {
        var fields: [String: any Sendable] = [:]
        fields["prompt"] = prompt
        fields["negative_prompt"] = negativePrompt
        fields["width"] = width
        fields["height"] = height
        fields["num_frames"] = numFrames
        fields["fps"] = fps
        fields["num_inference_steps"] = numInferenceSteps
        fields["guidance_scale"] = guidanceScale
        fields["scheduler"] = scheduler
        fields["seed"] = seed
        fields["dtype"] = dtype
        fields["step_cache"] = stepCache
        fields["step_cache_threshold"] = stepCacheThreshold
        fields["step_cache_range"] = stepCacheRange
        fields["steps_until"] = stepsUntil
        fields["decode_workers"] = decodeWorkers
        fields["fit"] = fit
        fields["strength"] = strength
        fields["source_fps"] = sourceFps
        fields["image_latent_scale"] = imageLatentScale
        if !lora.isEmpty {
            fields["loras"] = lora.map { ["name": $0.name, "weight": $0.weight] as [String: any Sendable] }
        }
        if useDynamicCfg { fields["use_dynamic_cfg"] = true }
        if upsamplePrompt { fields["upsample_prompt"] = true }
        if allowUnsafeSteps { fields["allow_unsafe_steps"] = true }
        if vaeTiling { fields["vae_tiling"] = true }
        return fields
    }
}
