package printable

import "testing"

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"golden retriever": "golden retriever", "日本語 كلب 🦊 👩‍🚀": "日本語 كلب 🦊 👩‍🚀", "a\x1b[31mb\x00": `a\x1b[31mb\x00`,
		"a\nb\tc": `a\x0ab\x09c`, "a\u202eb": `a\u202eb`, "a\xffb": `a\xffb`, "�": "�", "\U000e0041": `\U000e0041`,
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q): got %q, want %q", in, got, want)
		}
	}
	if got, want := Lines("a\x1bb\n\u202ec\n"), "a\\x1bb\n\\u202ec\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
