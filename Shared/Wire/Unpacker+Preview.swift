import CProtobufC
import CWire
import Failure

extension Unpacker {
    func taskOrigin(_ raw: Zoetrope__TaskOrigin) throws(Failure) -> TaskOrigin {
        try visit(raw.base)
        return TaskOrigin(
            task: try text(raw.task, "origin.task"),
            numerics: try text(raw.numerics, "origin.numerics", limit: Limits.messageBytes), isMixed: raw.mixed != 0,
            manner: try text(raw.manner, "origin.manner"))
    }

    func previewWatch(_ raw: Zoetrope__PreviewWatch) throws(Failure) -> String {
        try visit(raw.base)
        return try text(raw.job, "preview_watch.job")
    }

    func preview(_ raw: Zoetrope__Preview) throws(Failure) -> Preview {
        try visit(raw.base)
        try Bounds.check(bytes: raw.jpeg.len, limit: Limits.previewBytes, "preview.jpeg")
        return Preview(
            lease: try lease(required(raw.lease, "preview.lease")), step: raw.step, totalSteps: raw.total_steps,
            width: raw.width, height: raw.height, jpeg: bytes(raw.jpeg))
    }
}
