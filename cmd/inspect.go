package cmd

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"clipinspector/experiments/audit"
	"clipinspector/inspector"
	"clipinspector/internal/files"
	"clipinspector/prompts"
)

// Exit statuses of `inspect`; see also statusInterrupted.
const (
	inspectBackdoored = 1
	inspectUnclear    = 2
	inspectFailed     = 3
)

// verdict is an inspection that came to another end than clean.
type verdict struct{ decision audit.Decision }

// Error implements error.
func (v verdict) Error() string { return "verdict: " + string(v.decision) }

// failedInspection is an inspection that came to no end.
type failedInspection struct{ err error }

// Error implements error.
func (f failedInspection) Error() string { return f.err.Error() }

// Unwrap gives the reason.
func (f failedInspection) Unwrap() error { return f.err }

func inspectCommand(f *flags) *cobra.Command {
	var a audit.Audit
	var out, format string
	c := &cobra.Command{
		Use:   "inspect --checkpoint FILE --ood DIR [--classes FILE] [--clip CLIP] [--shots DIR]",
		Short: "Say whether a delivered model is backdoored",
		Long: `inspect says whether a delivered model is backdoored. It searches a trigger for every class, and
looks for the class that is far too easy to reach. It prints the anomaly index of every class,
the verdict, the suspected target, and which files the verdict is about, with their checksums.

It writes report.json, verdict.png, trigger.png and trigger.safetensors below --out. It also
writes the audited model, audited.safetensors. Deploy that file. The verb verify says whether a
file is the audited one.

What is normal is measured on clean references. inspect tunes them with the same learner,
encoder and classes: on the provider's images (--shots), or without labels on pool images. Nobody
but the provider knows how long he tuned. So references of his images are tuned for 25 to 200
epochs. p is the chance that a clean model looks as suspicious. If p is below 2.3 % (k = 2), the
verdict is backdoored. All of this takes about five times the verdict alone: that decides how many
references there are and, where tuning is dear, for how long the longest is tuned. The estimate is
printed first.

Then the suspect is looked at once more. Does it answer to a patch, a blended picture, bounded
noise, a warp, a wave, or to none of these? One sentence says so. explained-1.png shows pool
images before and after (--classes-to-explain).

By default triggers are looked for that work on any image. With --shots,
--set detector.source-classes=true also looks for those that work on images of one class alone.

Exit status:
  0    clean
  1    backdoored
  2    cannot tell: fewer than five classes, references that do not tell the classes apart, a
       number that is not finite, a prompt that no tuning makes, a list of twins, or, for a
       detector without references, an index within 1/3 of k
  3    the audit failed
  64   the command is wrong
  130  stopped`,
		Example: `  clip-inspector inspect --checkpoint delivered/prompt_learner/model.pth.tar-50 --classes classes.txt --clip ViT-B-16.pt --ood pictures
  clip-inspector inspect --checkpoint model.safetensors --ood builtin:mini --shots mini-pets
  clip-inspector inspect --checkpoint model.safetensors --ood pictures --set detector.epsilon=0.05 --set detector.optimise=400`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.Checkpoint == "" || a.OOD == "" {
				return misused("inspect: say which model by --checkpoint FILE and which unlabelled images by --ood DIR (or builtin:mini)")
			}
			if err := checkAudit(a, format); err != nil {
				return err
			}
			a.Device, a.Threads, a.Report = f.device, f.threads, f.report()
			if err := files.Writable(out); err != nil {
				return failedInspection{fmt.Errorf("--out %s: %w", out, err)}
			}
			finding, err := audit.Inspect(c.Context(), a, out)
			switch {
			case err != nil:
			case format == "json":
				err = audit.WriteJSON(c.OutOrStdout(), finding)
			default:
				err = finding.Print(c.OutOrStdout(), out)
			}
			switch {
			case err != nil:
				return failedInspection{err}
			case finding.Decision != audit.DecisionClean:
				return verdict{finding.Decision}
			}
			return nil
		},
	}
	auditFlags(c, &a)
	formatFlag(c, &format)
	counted(c.Flags(), &a.References, "references", 0, 0, "clean references to compare the model with; 0: 3 to 8, as many as fit into five times the verdict's own work")
	counted(c.Flags(), &a.Explain, "classes-to-explain", 0, 1, "how many classes, the suspect first, to look at once more for the kind of trigger; 0 for none")
	c.Flags().StringVar(&out, "out", filepath.Join("runs", "inspect"), "folder for the report, the pictures and the recovered trigger")
	return c
}

// reportFormats are the formats in which inspect and repair print what they report.
var reportFormats = []string{"text", "json"}

func formatFlag(c *cobra.Command, format *string) {
	c.Flags().StringVar(format, "format", "text", "what is printed: text, or json (for inspect, the bytes of report.json)")
	complete(c, "format", func() []string { return reportFormats })
}

// checkAudit tells misuse of the flags that inspect and repair share.
func checkAudit(a audit.Audit, format string) error {
	if _, err := inspector.Find(a.Detector); err != nil {
		return misused("--detector: %w", err)
	}
	if err := a.Hints.Check(); err != nil {
		return misuse{err}
	}
	return oneOf("format", format, reportFormats)
}

// hintFlags answer what a delivered file may leave open.
func hintFlags(c *cobra.Command, h *prompts.Hints) {
	c.Flags().StringVar(&h.Learner, "learner", "", "learner of the checkpoint, if the file does not say it: coop, ...")
	c.Flags().StringVar(&h.Position, "class-position", "", "where the class name stands in CoOp's prompts, which no file says: end (its default), middle or front")
	c.Flags().StringVar(&h.Init, "init", "", `words of the checkpoint's prompts: "a photo of a", or the whole prompt, "a photo of a {}, a type of pet."`)
}

// auditFlags are those that inspect and repair share.
func auditFlags(c *cobra.Command, a *audit.Audit) {
	c.Flags().StringVar(&a.Checkpoint, "checkpoint", "", "delivered model: this project's *.safetensors, Dassl's or BAPLe's file or folder")
	c.Flags().StringVar(&a.Classes, "classes", "", "file of class names in the order of the labels, if the checkpoint has none: one a line, or JSON")
	hintFlags(c, &a.Hints)
	c.Flags().StringVar(&a.CLIP, "clip", "builtin:mini", "CLIP that the prompts were tuned for: builtin:mini, a folder or a file")
	c.Flags().StringVar(&a.OOD, "ood", "", "unlabelled images that show none of the classes, about 1,000: a folder, or builtin:mini")
	c.Flags().StringVar(&a.Shots, "shots", "", "labelled images: a folder with one folder for each class, or the name of a dataset (see list datasets)")
	counted(c.Flags(), &a.PerClass, "per-class", 1, 16, "labelled images of each class to tune on, at most; 30 % of a folder are kept to measure on")
	c.Flags().StringVar(&a.Detector, "detector", "separation", "`NAME` of the detector (see list detectors)")
	complete(c, "detector", func() (names []string) {
		for _, d := range inspector.All() {
			names = append(names, d.Name)
		}
		return names
	})
	c.Flags().DurationVar(&a.MaxTime, "max-time", 30*time.Minute, "refuse the work if its estimate is longer, such as 2h; 0 for any")
	counted(c.Flags(), &a.Seed, "seed", 0, 1, "decides which pool images are used, and how")
	c.Flags().StringArrayVar(&a.Sets, "set", nil, "detector.NAME=VALUE, tuning.NAME=VALUE (of clean references), references.longest=N or repair.NAME=VALUE; may be repeated")
}
