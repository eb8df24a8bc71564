import Failure
import Media
import Tensor

/// What a model that sees pictures is told about a clip.
package enum ClipCaption {
    /// After the paper's appendix C (the prompt that summarises the captions of a clip's frames), for frames that are
    /// there themselves, in our own words.
    package static let instruction = """
        These pictures are frames of one video, in the order of time and evenly spaced over it. Describe what the video \
        shows, in as much detail as the pictures allow: subjects, objects, animals, places, light and colours, and how \
        the camera moves. Tell what happens and what changes in the order in which it happens.
        Begin with the content itself, such as "A man sits in a chair, then stands up and walks to the kitchen". Do not \
        write of frames, pictures or a video, and use no phrases such as "the scene shows", "as the video progresses" or \
        "throughout". Write one paragraph of plain English, at most a hundred words, and nothing else.
        """

    /// The conversation for frames `[T, H, W, 3]` uint8.
    static func messages(_ instruction: String, frames: Tensor) throws(Failure) -> [ChatMessage] {
        var files: [[UInt8]] = []
        for index in 0..<frames.shape[0] {
            let picture = frames.rows(index..<index + 1).reshaped(Array(frames.shape.dropFirst()))
            files.append(try JPEGEncoder.encode(picture))
        }
        return [ChatMessage(role: "user", text: instruction, pictures: files)]
    }
}
