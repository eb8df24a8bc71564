/// The longest prefix of whole characters within `bytes` UTF-8 bytes.
func cut(_ text: String, toBytes bytes: Int) -> String {
    guard text.utf8.count > bytes else { return text }
    var kept = ""
    var size = 0
    for character in text {
        size += character.utf8.count
        if size > bytes { break }
        kept.append(character)
    }
    return kept
}
