import Compute
import Tensor

/// The residual stream of a forward pass: for every prompt its text rows, then its video rows.
///
/// One tensor, so that the rows of all prompts share the matrix products; text and video are modulated differently.
struct JointStream {
    /// `[prompts · (textLength + videoLength), width]`
    var rows: Tensor
    let prompts: Int
    let textLength: Int
    let videoLength: Int

    init(text: [Tensor], video: Tensor) {
        prompts = text.count
        textLength = text[0].shape[0]
        videoLength = video.shape[0]
        rows = Tensor.concatenated(text.flatMap { [$0, video] })
    }

    var length: Int { textLength + videoLength }

    /// The video rows of one prompt.
    func videoRows(_ prompt: Int) -> Range<Int> { prompt * length + textLength..<(prompt + 1) * length }
    private func textRows(_ prompt: Int) -> Range<Int> { prompt * length..<prompt * length + textLength }

    func norms(_ modulation: NormModulation, withText: Bool) -> [NormSpan] {
        (0..<prompts).flatMap { prompt in
            (withText
                ? [NormSpan(rows: textRows(prompt), scale: modulation.textScale, shift: modulation.textShift)] : [])
                + [NormSpan(rows: videoRows(prompt), scale: modulation.scale, shift: modulation.shift)]
        }
    }

    func gates(_ modulation: NormModulation, withText: Bool) -> [GateSpan] {
        (0..<prompts).flatMap { prompt in
            (withText ? [GateSpan(rows: textRows(prompt), gate: modulation.textGate)] : [])
                + [GateSpan(rows: videoRows(prompt), gate: modulation.gate)]
        }
    }
}
