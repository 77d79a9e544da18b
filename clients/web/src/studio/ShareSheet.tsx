/** The way in for viewers: a code to show, a link to send. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { viewerUrl } from "../shared/address";
import { Sheet } from "../shared/ui/controls";
import { Icon } from "../shared/ui/icons";
import { Qr } from "../shared/ui/Qr";
import { s } from "./words";

export function ShareSheet({ room, onClose }: { room: string; onClose: () => void }): JSX.Element {
  const [isCopied, setCopied] = useState(false);
  const path = encodeURIComponent(room);
  const url = viewerUrl(room);
  const share = async () => {
    try {
      if (navigator.share) await navigator.share({ url });
      else await navigator.clipboard.writeText(url);
      setCopied(!navigator.share);
    } catch {
      // Given up by the user, or forbidden: the link is there to read and select.
    }
  };
  return (
    <Sheet title={s("share")} onClose={onClose} testid="share-sheet">
      <div class="share">
        <Qr text={url} label={s("share")} />
        <p>{s("shareHint")}</p>
        <output class="share-url" data-testid="share-url">
          {url}
        </output>
        <div class="share-actions">
          <button type="button" class="btn btn-primary" onClick={() => void share()}>
            <Icon name={isCopied ? "check" : "copy"} />
            {isCopied ? s("copied") : s("copy")}
          </button>
          <a class="btn" href={`/screen/${path}`} target="_blank" rel="noreferrer">
            <Icon name="screen" />
            {s("openScreen")}
          </a>
        </div>
      </div>
    </Sheet>
  );
}
